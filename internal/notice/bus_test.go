package notice

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/gen/db"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/kit/testdb"
	"github.com/obscura-relay/obscura/internal/storage"
)

func TestMain(m *testing.M) { testdb.Main(m) }

// wait bounds every wait.
const wait = 20 * time.Second

// ear is a running bus and what it has heard.
type ear struct {
	*Bus
	db      *storage.DB
	notices chan core.Notice
	resyncs chan time.Time
}

func openDB(t *testing.T, url string) *storage.DB {
	t.Helper()
	d, err := storage.Open(context.Background(), url, storage.Options{MaxConns: 3, AsyncCommit: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

// idle makes a bus that does not run yet: it listens at one URL and sends on another.
func idle(t *testing.T, listen, send string) *ear {
	t.Helper()
	e := &ear{db: openDB(t, send), notices: make(chan core.Notice, 1<<12), resyncs: make(chan time.Time, 100)}
	e.Bus = New(Config{URL: listen, Requests: e.db, DB: e.db, Logger: slog.New(slog.DiscardHandler),
		Receive: func(n core.Notice) { e.notices <- n },
		Resync:  func() { e.resyncs <- time.Now() }})
	return e
}

// start runs a bus until the test ends, and waits until it listens.
func (e *ear) start(t *testing.T) *ear {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := e.Run(ctx); err != nil {
			t.Errorf("the bus ended with %v", err)
		}
	})
	t.Cleanup(func() { cancel(); running.Wait() })
	e.resynced(t)
	return e
}

func (e *ear) resynced(t *testing.T) {
	t.Helper()
	select {
	case <-e.resyncs:
	case <-time.After(wait):
		t.Fatal("the bus did not (re)connect")
	}
}

func (e *ear) next(t *testing.T) core.Notice {
	t.Helper()
	select {
	case n := <-e.notices:
		return n
	case <-time.After(wait):
		t.Fatal("no notice came")
		return core.Notice{}
	}
}

// all returns what has been received, by a probe that travels behind it.
func (e *ear) all(t *testing.T) []core.Notice {
	t.Helper()
	e.roundTrip(t)
	var out []core.Notice
	for len(e.notices) > 0 {
		out = append(out, <-e.notices)
	}
	return out
}

func (e *ear) roundTrip(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	if err := e.RoundTrip(ctx); err != nil {
		t.Fatalf("round trip: %v", err)
	}
}

func (e *ear) freshBecomes(t *testing.T, want bool, within time.Duration) {
	t.Helper()
	deadline, tick := time.After(within), time.NewTicker(5*time.Millisecond)
	defer tick.Stop()
	for e.Fresh() != want {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("fresh did not become %v within %v", want, within)
		}
	}
}

func TestAHintReachesEveryNode(t *testing.T) {
	t.Parallel()
	url := testdb.NewURL(t)
	one, two := idle(t, url, url).start(t), idle(t, url, url).start(t)
	device := uuid.New()
	one.Publish(core.Notice{Kind: core.NoticeMail, IDs: []uuid.UUID{device}})
	for _, e := range []*ear{one, two} {
		if n := e.next(t); n.Kind != core.NoticeMail || !slices.Equal(n.IDs, []uuid.UUID{device}) {
			t.Errorf("heard %+v", n)
		}
	}
	two.Publish(core.Notice{Kind: core.NoticeDisplaced, IDs: []uuid.UUID{device}, Generation: 1 << 40})
	if n := one.next(t); n.Kind != core.NoticeDisplaced || n.Generation != 1<<40 ||
		!slices.Equal(n.IDs, []uuid.UUID{device}) {
		t.Errorf("heard %+v", n)
	}
	one.roundTrip(t)
	if len(two.notices) > 1 { // its own displacement
		t.Error("another node heard of a probe")
	}
}

// A revocation travels in the transaction that makes it: with its commit, or not at all.
func TestARevocationTravelsWithItsTransaction(t *testing.T) {
	t.Parallel()
	url := testdb.NewURL(t)
	e := idle(t, url, url).start(t)
	revoke := func(id uuid.UUID, result error) {
		_ = e.db.InTx(t.Context(), func(tx *storage.Tx) error {
			payloads := core.Notice{Kind: core.NoticeEnded, IDs: []uuid.UUID{id}}.Payloads()
			if err := storage.Queries.Notify(t.Context(), tx,
				db.NotifyParams{Channel: core.NoticeChannel, Payloads: payloads}); err != nil {
				t.Error(err)
			}
			return result
		})
	}
	undone, done := uuid.New(), uuid.New()
	revoke(undone, context.Canceled)
	revoke(done, nil)
	if heard := e.all(t); len(heard) != 1 || heard[0].Kind != core.NoticeEnded || heard[0].IDs[0] != done {
		t.Errorf("heard %+v", heard)
	}
}

func TestTheBusReconnectsAndSaysThatNoticesMayBeMissing(t *testing.T) {
	t.Parallel()
	url := testdb.NewURL(t)
	e := idle(t, url, url).start(t)
	e.freshBecomes(t, true, wait)
	for range 2 {
		var killed int
		err := e.db.Pool().QueryRow(t.Context(), `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
			WHERE datname = current_database() AND application_name = 'obscura-notices'`).Scan(&killed)
		if err != nil || killed != 1 {
			t.Fatalf("%d listeners, %v", killed, err)
		}
		e.resynced(t)
		e.freshBecomes(t, true, wait)
		e.roundTrip(t)
	}
}

// While the listening connection is unavailable the node does not trust what it remembers.
func TestANodeThatCannotListenIsNotFresh(t *testing.T) {
	t.Parallel()
	url := testdb.NewURL(t)
	e := idle(t, url, url)
	if e.Fresh() {
		t.Error("fresh before it has ever listened")
	}
	e.start(t)
	e.freshBecomes(t, true, wait)
	proxy := testdb.NewProxy(t, url)
	behind := idle(t, proxy.URL, url).start(t)
	behind.freshBecomes(t, true, wait)
	proxy.Die() // half-open: no end of the connection is heard
	behind.freshBecomes(t, false, trust+pulse+wait/4)
	died := time.Now()
	if n := len(behind.resyncs); n != 0 {
		t.Errorf("%d resyncs while it is unavailable", n)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := behind.RoundTrip(ctx); err == nil {
		t.Error("a probe came back over a dead connection")
	}
	e.roundTrip(t) // the others are well
	proxy.Revive()
	behind.resynced(t)
	behind.freshBecomes(t, true, wait)
	behind.roundTrip(t)
	t.Logf("it listened again after %v", time.Since(died))
}
