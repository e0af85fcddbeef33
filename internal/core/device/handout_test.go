package device_test

import (
	"context"
	"errors"
	"flag"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"pgregory.net/rapid"

	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/core/account"
	"github.com/obscura-relay/obscura/internal/core/device"
	"github.com/obscura-relay/obscura/internal/core/keys"
	"github.com/obscura-relay/obscura/internal/kit/prekeytest"
	"github.com/obscura-relay/obscura/internal/kit/testdb"
	"github.com/obscura-relay/obscura/internal/storage"
)

// silent is a node that tells nobody.
type silent struct{}

func (silent) Announce(core.Notice) {}

func TestMain(m *testing.M) {
	// A property costs a database round trip a step: fewer runs, unless the command line asks for
	// more.
	_ = flag.Set("rapid.checks", "20")
	testdb.Main(m)
}

// poolIDs is how many key ids a world uses, each with two different keys: few, so that ids come
// again.
const poolIDs = 12

// pool is made once: keys of both kinds by variant and id, and identities.
var pool = sync.OnceValue(func() (p struct {
	ec, kyber  [2][poolIDs][]byte
	identities [3]*prekeytest.Identity
}) {
	for variant := range 2 {
		for id := range poolIDs {
			p.ec[variant][id], p.kyber[variant][id] = prekeytest.NewKeyPair().Public, prekeytest.NewKyberPublicKey()
		}
	}
	for i := range p.identities {
		p.identities[i] = prekeytest.NewIdentity()
	}
	return p
})

// services are what hands keys out, on one database.
type services struct {
	devices *device.Service
	keys    *keys.Service
	sql     *pgxpool.Pool
}

func startServices(t *testing.T) *services {
	t.Helper()
	url := testdb.NewURL(t)
	open, err := storage.Open(context.Background(), url, storage.Options{MaxConns: 8})
	if err == nil {
		err = open.CheckSchema(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(open.Close)
	sql, err := pgxpool.New(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sql.Close)
	accounts := account.New(account.Config{DB: open, TokenKey: make([]byte, 32)})
	if err := accounts.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := &services{sql: sql,
		devices: device.New(device.Config{DB: open, Accounts: accounts, Node: silent{}}),
		keys:    keys.New(keys.Config{DB: open, Node: silent{}, Dropped: func(core.GapReason, int) {}})}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = s.keys.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	return s
}

// sent is an upload and the identity that signed it.
type sent struct {
	identity *prekeytest.Identity
	keys     keys.Publication
}

// live is a device that exists.
type live struct {
	core.Principal
	identity *prekeytest.Identity
}

// failer is what testing.TB and rapid.T have in common.
type failer interface {
	Context() context.Context
	Errorf(format string, args ...any)
	Fatal(args ...any)
}

// world is a user, everything that their devices have sent so far, and all that was handed out.
type world struct {
	*services
	user core.Principal

	mu      sync.Mutex
	live    []live         // guarded by mu
	sent    []sent         // guarded by mu: each may come again, for any device
	handed  map[string]int // guarded by mu: how often each key went out
	fetches int            // guarded by mu: how many keys went out
}

func newWorld(t failer, s *services) *world {
	w := &world{services: s, user: core.Principal{User: uuid.New(), Session: uuid.New()}, handed: map[string]int{}}
	for _, statement := range []string{
		`INSERT INTO users (id, username, username_key, password_hash) VALUES ($1, $2::text, $2::text, '')`,
		`INSERT INTO sessions (id, user_id, refresh_key, expires_at) VALUES ($2::uuid, $1, '', now() + '1 hour')`,
	} {
		if _, err := s.sql.Exec(t.Context(), statement, w.user.User, w.user.Session.String()); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// newUpload draws keys of both kinds: a run of ids, all of one variant.
func newUpload(draw func(n int) int, identity *prekeytest.Identity, whole bool) sent {
	p, u := pool(), keys.Publication{}
	if whole {
		public := p.ec[0][draw(poolIDs)]
		u.Identity, u.RegistrationID = identity.Public, 7
		u.Signed = &keys.SignedPreKey{ID: 1, Public: public, Signature: identity.Sign(public)}
	}
	for i, first, variant := draw(6), draw(poolIDs), draw(2); i > 0; i-- {
		id := (first + i) % poolIDs
		u.EC = append(u.EC, keys.PreKey{ID: int32(id), Public: p.ec[variant][id]})
	}
	for i, first, variant := draw(4), draw(poolIDs), draw(2); i > 0; i-- {
		id := (first + i) % poolIDs
		public := p.kyber[variant][id]
		u.Kyber = append(u.Kyber, keys.SignedPreKey{ID: int32(id), Public: public, Signature: identity.Sign(public)})
	}
	return sent{identity, u}
}

// pick chooses a device that exists.
func (w *world) pick(draw func(n int) int) (live, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.live) == 0 {
		return live{}, false
	}
	return w.live[draw(len(w.live))], true
}

// remember keeps what is sent. A repetition is kept too, and changes nothing.
func (w *world) remember(s sent) sent {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sent = append(w.sent, s)
	return s
}

// past chooses something that was sent before.
func (w *world) past(draw func(n int) int) (sent, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.sent) == 0 {
		return sent{}, false
	}
	return w.sent[draw(len(w.sent))], true
}

// expect fails on any error but those that an upload may meet.
func expect(t failer, err error) bool {
	for _, known := range []error{nil, keys.ErrBadSignature, keys.ErrKeyIDTwice, keys.ErrKeyIDNotHigher,
		keys.ErrTakeoverUnsigned,
		keys.ErrIdentityChanged, keys.ErrDeviceGone, core.ErrUnauthorized, device.ErrTooMany, keys.ErrUserUnknown} {
		if errors.Is(err, known) {
			return err == nil
		}
	}
	t.Errorf("%v", err)
	return false
}

func (w *world) create(t failer, s sent) {
	tokens, err := w.devices.Create(t.Context(), w.user, nil, s.keys)
	if !expect(t, err) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.live = append(w.live, live{tokens.Principal, s.identity})
}

func (w *world) upload(t failer, d live, s sent) {
	if expect(t, w.keys.Publish(t.Context(), d.Principal, s.keys)) && s.keys.Identity != nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		for i := range w.live {
			if w.live[i].Device == d.Device {
				w.live[i].identity = s.identity
			}
		}
	}
}

func (w *world) remove(t failer, d live) {
	expect(t, w.devices.Delete(t.Context(), w.user, d.Device))
	w.mu.Lock()
	defer w.mu.Unlock()
	w.live = slices.DeleteFunc(w.live, func(l live) bool { return l.Device == d.Device })
}

// fetch takes a bundle of each device and fails when a key goes out that went out before.
func (w *world) fetch(t failer) {
	bundles, err := w.keys.Bundles(t.Context(), w.user.User)
	if !expect(t, err) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, b := range bundles {
		if b.OneTime != nil {
			w.count(t, "EC", b.OneTime.ID, b.OneTime.Public)
		}
		if b.Kyber != nil {
			w.count(t, "Kyber", b.Kyber.ID, b.Kyber.Public)
		}
	}
}

func (w *world) count(t failer, kind string, id int32, public []byte) {
	w.fetches++
	if w.handed[string(public)]++; w.handed[string(public)] == 2 {
		t.Errorf("%s key %d was handed out twice", kind, id)
	}
}

// act does one of the things that a user, a client that repeats itself and others do.
func (w *world) act(t failer, what string, draw func(n int) int) {
	d, there := w.pick(draw)
	old, repeats := w.past(draw)
	switch {
	case what == "create":
		w.create(t, w.remember(newUpload(draw, pool().identities[draw(3)], true)))
	case what == "create again" && repeats && old.keys.Signed != nil:
		w.create(t, old)
	case what == "upload" && there:
		w.upload(t, d, w.remember(newUpload(draw, d.identity, false)))
	case what == "repeat" && there && repeats:
		w.upload(t, d, old)
	case what == "take over" && there:
		w.upload(t, d, w.remember(newUpload(draw, pool().identities[draw(3)], true)))
	case what == "remove" && there:
		w.remove(t, d)
	case what == "fetch":
		w.fetch(t)
	}
}

var acts = []string{"create", "create again", "upload", "repeat", "take over", "remove", "fetch"}

// Uploads, repetitions of any of them for any device, takeovers, hand-outs and removals in any
// order.
func TestAOneTimeKeyIsNeverHandedOutTwice(t *testing.T) {
	t.Parallel()
	s := startServices(t)
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, s)
		steps := map[string]func(*rapid.T){}
		for _, what := range acts {
			steps[what] = func(t *rapid.T) {
				w.act(t, what, func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "n") })
			}
		}
		t.Repeat(steps)
	})
}

func TestAOneTimeKeyIsNeverHandedOutTwiceAtOnce(t *testing.T) {
	t.Parallel()
	s := startServices(t)
	const worlds, actors, steps = 3, 8, 60
	for range worlds {
		w := newWorld(t, s)
		var wg sync.WaitGroup
		for range actors {
			wg.Go(func() {
				for range steps {
					// Mostly uploads, repetitions and hand-outs.
					w.act(t, acts[[]int{0, 1, 2, 2, 3, 3, 3, 4, 5, 6, 6, 6}[rand.IntN(12)]], rand.IntN)
				}
			})
		}
		wg.Wait()
		if w.fetches < 20 {
			t.Errorf("only %d keys were handed out", w.fetches)
		}
	}
}
