package keys_test

import (
	"strings"
	"testing"

	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/core/keys"
	"github.com/obscura-relay/obscura/internal/kit/prekeytest"
	"github.com/obscura-relay/obscura/schema"
)

// realDevice is a device whose identity key can sign.
func (b *bench) realDevice(t testing.TB) (core.Principal, *prekeytest.Identity) {
	t.Helper()
	p, identity := b.device(t), prekeytest.NewIdentity()
	b.exec(t, "UPDATE devices SET identity_key = $1 WHERE id = $2", identity.Public, p.Device)
	return p, identity
}

// freshKeys are n one-time keys of each kind, from an id on.
func freshKeys(identity *prekeytest.Identity, first, n int) keys.Publication {
	var u keys.Publication
	for i, k := range prekeytest.PreKeys(first, n) {
		u.EC = append(u.EC, keys.PreKey{ID: int32(first + i), Public: k.PublicKey})
	}
	for i, k := range identity.KyberPreKeys(first, n) {
		u.Kyber = append(u.Kyber, keys.SignedPreKey{ID: int32(first + i), Public: k.PublicKey, Signature: k.Signature})
	}
	return u
}

func (b *bench) mustUpload(t testing.TB, p core.Principal, u keys.Publication) {
	t.Helper()
	if err := b.Publish(t.Context(), p, u); err != nil {
		t.Fatal(err)
	}
}

// An answer was lost, a peer fetched a bundle, and the client repeats its upload.
func TestARepeatedUploadBringsNoHandedOutKeyBack(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	p, identity := b.realDevice(t)
	u := freshKeys(identity, 1, 3)
	b.mustUpload(t, p, u)
	b.mustTake(t, p, 1)
	b.mustUpload(t, p, u)
	b.wantCounts(t, p, 2, 2)
	again := freshKeys(identity, 1, 1) // the id with other keys
	b.mustUpload(t, p, again)
	b.mustUpload(t, p, u)
	b.mustUpload(t, p, again)
	b.wantCounts(t, p, 3, 3)
	bundles, err := b.Bundles(t.Context(), p.User)
	if err != nil || string(bundles[0].OneTime.Public) != string(again.EC[0].Public) ||
		string(bundles[0].Kyber.Public) != string(again.Kyber[0].Public) {
		t.Errorf("the keys that came under a used id are not handed out: %v", err)
	}
	b.mustTake(t, p, 2, 3, -1)
}

func TestATakeoverBringsNoHandedOutKeyBack(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	p, _ := b.realDevice(t)
	var takeovers [2]keys.Publication // of two installations, each with all its keys
	for i := range takeovers {
		identity := prekeytest.NewIdentity()
		signed := identity.SignedPreKey(1)
		takeovers[i] = freshKeys(identity, 1, 2)
		takeovers[i].Identity, takeovers[i].RegistrationID = identity.Public, 7
		takeovers[i].Signed = &keys.SignedPreKey{ID: 1, Public: signed.PublicKey, Signature: signed.Signature}
	}
	b.mustUpload(t, p, takeovers[0])
	b.mustTake(t, p, 1)
	b.mustUpload(t, p, takeovers[1])
	b.mustTake(t, p, 1)
	b.mustUpload(t, p, takeovers[0])
	b.mustTake(t, p, 2) // it was dropped, not handed out
	b.mustUpload(t, p, takeovers[1])
	b.mustTake(t, p, 2)
	b.wantCounts(t, p, 0, 0)
}

func TestAKeyThatMadeRoomMayComeAgain(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	p, identity := b.realDevice(t)
	first := freshKeys(identity, 1, 2)
	b.mustUpload(t, p, first)
	b.mustUpload(t, p, freshKeys(identity, 100, core.MaxPreKeys))
	b.mustUpload(t, p, first)
	b.mustTake(t, p, 1, 2)
}

// An id that is never the lowest stays in the stock, however much is handed out meanwhile.
func TestTheMemoryIsBoundedAndForgetsNoHeldKey(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	p, identity := b.realDevice(t)
	held := freshKeys(identity, 1_000_000, 1)
	b.mustUpload(t, p, held)
	var rounds []keys.Publication
	for round := range keys.MaxRemembered/90 + 3 {
		u := freshKeys(identity, 1+round*90, 90)
		u.Kyber = u.Kyber[:1]
		rounds = append(rounds, u)
		b.mustUpload(t, p, u)
		for range 90 {
			b.take(p)
		}
	}
	b.mustUpload(t, p, keys.Publication{EC: rounds[len(rounds)-1].EC})
	var remembered int
	if err := b.sql.QueryRow(t.Context(), "SELECT cardinality(ec) FROM known_pre_keys WHERE device_id = $1",
		p.Device).Scan(&remembered); err != nil {
		t.Fatal(err)
	}
	if remembered != keys.MaxRemembered+1 {
		t.Errorf("%d keys are remembered, want the last %d and the one that is held", remembered, keys.MaxRemembered)
	}
	b.mustUpload(t, p, rounds[len(rounds)-keys.MaxRemembered/90]) // the oldest that is remembered whole
	left, err := b.Counts(t.Context(), p.Device)
	if ec := left[p.Device].EC; err != nil || ec != 1 {
		t.Errorf("%d keys are held, %v; want the one", ec, err)
	}
	if got := b.take(p); got.ec != 1_000_000 {
		t.Fatalf("a fetch got EC %d", got.ec)
	}
	b.mustUpload(t, p, held)
	if got := b.take(p); got.ec != -1 {
		t.Errorf("EC %d was handed out twice", got.ec)
	}
}

// The migration remembers what is held, so that what is handed out right after it is known as well.
func TestTheMigrationRemembersWhatIsHeld(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	p, identity := b.realDevice(t)
	u := freshKeys(identity, 1, 3)
	b.mustUpload(t, p, u)
	b.exec(t, "DELETE FROM known_pre_keys")
	file, err := schema.FS.ReadFile("00007_known_pre_keys.sql")
	if err != nil {
		t.Fatal(err)
	}
	_, statement, _ := strings.Cut(string(file), "INSERT INTO known_pre_keys")
	statement, _, _ = strings.Cut(statement, ";")
	b.exec(t, "INSERT INTO known_pre_keys"+statement)
	b.mustTake(t, p, 1, 2)
	b.mustUpload(t, p, u)
	b.mustTake(t, p, 3, -1)
}
