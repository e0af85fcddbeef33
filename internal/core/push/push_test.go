package push

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/kit/testdb"
	"github.com/obscura-relay/obscura/internal/storage"
)

func TestMain(m *testing.M) { testdb.Main(m) }

// counts is a Counters that counts nothing.
type counts struct{}

func (counts) Wakeup(string, string) {}
func (counts) WakeupsCancelled(int)  {}

// fakeSender takes everything.
type fakeSender struct {
	mu   sync.Mutex
	sent []Token // guarded by mu
}

func (f *fakeSender) Send(_ context.Context, to Token) Result {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sent = append(f.sent, to)
	return Result{Outcome: Delivered}
}

func (*fakeSender) Close() {}

// service is a Service on a database of its own, which nobody runs.
func service(t testing.TB, times Times) (*Service, *fakeSender, *pgxpool.Pool) {
	t.Helper()
	return serviceOn(t, testdb.NewURL(t), times)
}

// serviceOn is service on a database.
func serviceOn(t testing.TB, url string, times Times) (*Service, *fakeSender, *pgxpool.Pool) {
	t.Helper()
	database, err := storage.Open(context.Background(), url, storage.Options{MaxConns: 4})
	if err == nil {
		err = database.CheckSchema(context.Background())
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(database.Close)
	inside, err := pgxpool.New(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(inside.Close)
	sender := &fakeSender{}
	return New(Config{DB: database, Async: database, Senders: map[Kind]Sender{FCM: sender},
			Live: func(core.DeviceID) bool { return false },
			Ask:  func([]core.DeviceID) {}, Times: times, Counters: counts{}, Logger: slog.New(slog.DiscardHandler)}),
		sender, inside
}

// populate makes n devices with a token each and this much mail.
func populate(t testing.TB, inside *pgxpool.Pool, n, pending int) {
	t.Helper()
	for _, sql := range []string{
		`INSERT INTO users (id, username, username_key, password_hash) SELECT gen_random_uuid(), g, g, '' FROM generate_series(1, $1) g`,
		`INSERT INTO devices (id, user_id, number, registration_id, identity_key, signed_pre_key_id, signed_pre_key, signed_pre_key_sig)
			SELECT gen_random_uuid(), id, 1, 1, '', 1, '', '' FROM users LIMIT $1`,
		`INSERT INTO push_tokens (device_id, kind, address) SELECT id, 1, id FROM devices LIMIT $1`,
	} {
		if _, err := inside.Exec(t.Context(), sql, n); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := inside.Exec(t.Context(),
		`INSERT INTO mailboxes (device_id, next_seq, pending) SELECT id, $1 + 1, $1 FROM devices`,
		pending); err != nil {
		t.Fatal(err)
	}
}

func scheduled(t testing.TB, inside *pgxpool.Pool) (n int) {
	t.Helper()
	if err := inside.QueryRow(t.Context(), "SELECT count(*) FROM push_wakeups").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestASweepFindsWhatWasForgotten(t *testing.T) {
	t.Parallel()
	s, _, inside := service(t, Times{})
	populate(t, inside, 2*sweepStep+1, 3)
	for _, sql := range []string{
		`UPDATE push_tokens SET woken_seq = 3 WHERE device_id IN (SELECT device_id FROM push_tokens ORDER BY device_id LIMIT 10)`,        // have been told
		`UPDATE push_tokens SET kind = 2 WHERE device_id IN (SELECT device_id FROM push_tokens ORDER BY device_id DESC LIMIT 10)`,        // cannot be
		`UPDATE mailboxes SET pending = 0 WHERE device_id IN (SELECT device_id FROM push_tokens ORDER BY device_id OFFSET 100 LIMIT 10)`, // have nothing
	} {
		if _, err := inside.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := s.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := scheduled(t, inside); n != 2*sweepStep+1-30 {
			t.Fatalf("%d scheduled", n)
		}
	}
}

// Four schedule and take the same devices at once, in both directions: nobody fails, and in the end
// each is scheduled once.
func TestNodesDoNotGetInEachOthersWay(t *testing.T) {
	t.Parallel()
	one, _, inside := service(t, Times{})
	populate(t, inside, 300, 1)
	rows, err := inside.Query(t.Context(), "SELECT device_id FROM push_tokens ORDER BY random()")
	if err != nil {
		t.Fatal(err)
	}
	var ids []core.DeviceID
	for rows.Next() {
		var id uuid.UUID
		if err := rows.Scan(&id); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	var nodes sync.WaitGroup
	for i := range 4 {
		nodes.Go(func() {
			for range 20 {
				backwards := append([]core.DeviceID(nil), ids...)
				if i%2 == 0 {
					for a, b := 0, len(backwards)-1; a < b; a, b = a+1, b-1 {
						backwards[a], backwards[b] = backwards[b], backwards[a]
					}
				}
				for _, in := range one.buckets {
					elsewhere := func(id core.DeviceID) bool { return one.of(id) != in }
					some := slices.DeleteFunc(slices.Clone(backwards), elsewhere)
					if err := one.schedule(t.Context(), in, some); err != nil {
						t.Error(err)
					}
					b := leasedBatch{lane: lane{kind: FCM}, in: in}
					if err := one.take(t.Context(), &b); err != nil || len(b.leases) > 0 { // not due
						t.Error(len(b.leases), err)
					}
				}
			}
		})
	}
	nodes.Wait()
	if n := scheduled(t, inside); n != len(ids) {
		t.Errorf("%d scheduled", n)
	}
}

func TestASetIsBoundedAndHoldsEachOnce(t *testing.T) {
	t.Parallel()
	s := newSet(maxSet)
	ids := make([]core.DeviceID, maxSet+5)
	for i := range ids {
		ids[i] = uuid.New()
	}
	s.add(ids[:3])
	s.add(ids[1:4])
	s.remove(ids[:1])
	if s.len() != 3 {
		t.Errorf("%d", s.len())
	}
	s.add(ids)
	if s.len() != maxSet {
		t.Errorf("%d", s.len())
	}
	taken := s.take()
	for i := range taken[1:] {
		if string(taken[i][:]) >= string(taken[i+1][:]) {
			t.Fatal("not in order")
		}
	}
	if s.len() != 0 {
		t.Error("it is not empty")
	}
}

func TestBackoffDoublesWithinBounds(t *testing.T) {
	t.Parallel()
	s, _, _ := service(t, Times{})
	for attempts, want := range map[int32]time.Duration{1: 5 * time.Second, 2: 10 * time.Second, 5: 80 * time.Second,
		11: time.Hour, 40: time.Hour} {
		for range 50 {
			if d := s.backoff(attempts, 0); d < want*9/10 || d > want*11/10+1 {
				t.Errorf("attempt %d: %s", attempts, d)
			}
		}
	}
	if d := s.backoff(1, 10*time.Minute); d != 10*time.Minute {
		t.Errorf("asked for ten minutes: %s", d)
	}
	if d := s.backoff(1, 24*time.Hour); d != time.Hour {
		t.Errorf("asked for a day: %s", d)
	}
}

// A database that is unavailable loses nothing that was to be scheduled.
func TestWhatCannotBeScheduledWaits(t *testing.T) {
	t.Parallel()
	s, _, inside := service(t, Times{Linger: time.Millisecond})
	populate(t, inside, 1, 1)
	if _, err := inside.Exec(t.Context(), "ALTER TABLE push_wakeups RENAME TO away"); err != nil {
		t.Fatal(err)
	}
	var id core.DeviceID
	if err := inside.QueryRow(t.Context(), "SELECT device_id FROM push_tokens").Scan(&id); err != nil {
		t.Fatal(err)
	}
	s.Schedule(id)
	s.flush(t.Context(), s.of(id), s.of(id).due, s.schedule)
	if s.Waiting() != 1 {
		t.Fatal("it was dropped")
	}
	if _, err := inside.Exec(t.Context(), "ALTER TABLE away RENAME TO push_wakeups"); err != nil {
		t.Fatal(err)
	}
	s.flush(t.Context(), s.of(id), s.of(id).due, s.schedule)
	if s.Waiting() != 0 || scheduled(t, inside) != 1 {
		t.Error("it is not scheduled")
	}
}
