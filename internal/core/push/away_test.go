package push

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/kit/testdb"
	"github.com/obscura-relay/obscura/internal/kit/wait"
)

// apart makes a service on three buckets with some devices in each, and mail for all. away makes a
// bucket unavailable until back is called.
func apart(t *testing.T) (s *Service, ids []core.DeviceID, inside *pgxpool.Pool, away func(bucket int) (back func())) {
	t.Helper()
	s, ids, inside, url := divided(t)
	return s, ids, inside, func(bucket int) func() { return testdb.Away(t, url, bucket) }
}

// divided is apart, and the database.
func divided(t *testing.T) (s *Service, ids []core.DeviceID, inside *pgxpool.Pool, url string) {
	t.Helper()
	url = testdb.NewDivided(t, 3)
	s, _, inside = serviceOn(t, url, Times{Grace: time.Millisecond, Jitter: time.Millisecond, Linger: time.Millisecond,
		Ask: time.Millisecond, Poll: 10 * time.Millisecond})
	populate(t, inside, sendsAtOnce, 1)
	ids = devicesIn(t, inside)
	if in := s.inBuckets(ids); slices.Contains(in[:], 0) {
		t.Fatalf("%v devices in the buckets", in)
	}
	return s, ids, inside, url
}

// inBuckets counts devices by their buckets.
func (s *Service) inBuckets(ids []core.DeviceID) (n [3]int) {
	for _, id := range ids {
		n[s.of(id).number]++
	}
	return n
}

// told is a Sender that tells of whom it has woken up, once let closes.
type told struct {
	let  chan struct{}
	some func(n int) // hears how many are to be woken up

	mu  sync.Mutex
	all []core.DeviceID // guarded by mu
}

func (s *told) Send(_ context.Context, to Token) Result {
	s.mu.Lock()
	s.all = append(s.all, uuid.MustParse(to.Address))
	s.some(len(s.all))
	s.mu.Unlock()
	<-s.let
	return Result{Outcome: Delivered}
}

func (*told) Close() {}

func (s *told) devices() []core.DeviceID {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.all)
}

// One bucket is unavailable while the devices of all are scheduled, leased and woken up.
func TestABucketThatIsAwayHoldsUpItsOwnWakeUpsOnly(t *testing.T) {
	t.Parallel()
	s, ids, _, away := apart(t)
	sender := &told{let: make(chan struct{}), some: func(int) {}}
	close(sender.let)
	s.cfg.Senders[FCM] = sender
	back := away(0)
	run(t, s.Run)
	s.Schedule(ids...)
	want := s.inBuckets(ids)
	wait.Eventually(t, "the others are woken up", func() bool {
		n := s.inBuckets(sender.devices())
		return n == [3]int{0, want[1], want[2]}
	})
	back()
	wait.Eventually(t, "those of the bucket are woken up", func() bool {
		return s.inBuckets(sender.devices()) == want
	})
}

// One bucket becomes unavailable while wake-ups of all are sent: what became of the others' is
// recorded.
func TestABucketThatIsAwayHoldsUpItsOwnResultsOnly(t *testing.T) {
	t.Parallel()
	s, ids, inside, away := apart(t)
	sending := make(chan struct{})
	sender := &told{let: make(chan struct{}), some: func(n int) {
		if n == len(ids) {
			close(sending)
		}
	}}
	s.cfg.Senders[FCM] = sender
	run(t, s.Run)
	s.Schedule(ids...)
	select {
	case <-sending:
	case <-time.After(30 * time.Second):
		t.Fatal("they are not all sent")
	}
	back := away(0)
	close(sender.let)
	wait.Eventually(t, "what became of the others is recorded", func() bool {
		var left, told int
		if err := inside.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM push_wakeups w WHERE w.bucket > 0),
			(SELECT count(*) FROM push_tokens t WHERE t.bucket > 0 AND t.woken_seq = 1)`).Scan(&left, &told); err != nil {
			t.Fatal(err)
		}
		n := s.inBuckets(ids)
		return left == 0 && told == n[1]+n[2]
	})
	back()
	if n, want := scheduled(t, inside), s.inBuckets(ids)[0]; n != want {
		t.Errorf("%d are left, want those of the bucket: %d", n, want)
	}
}

func TestASweepPassesOverABucketThatIsAway(t *testing.T) {
	t.Parallel()
	s, ids, inside, away := apart(t)
	back := away(0)
	if err := s.Sweep(t.Context()); core.KindOf(err) != core.Unavailable {
		t.Errorf("heard %v", err)
	}
	back()
	in := s.inBuckets(ids)
	if n := scheduled(t, inside); n != in[1]+in[2] {
		t.Errorf("%d scheduled, want %d", n, in[1]+in[2])
	}
	if err := s.Sweep(t.Context()); err != nil || scheduled(t, inside) != len(ids) {
		t.Errorf("%d scheduled, %v", scheduled(t, inside), err)
	}
}

// One bucket hangs with all that two lanes, the schedule and the cancelling ask of it: the others'
// devices are woken up before it is given up. All go through four connections.
func TestABucketThatHangsHoldsUpItsOwnWakeUpsOnly(t *testing.T) {
	t.Parallel()
	s, ids, inside, url := divided(t)
	for _, sql := range []string{
		`UPDATE push_tokens SET kind = 1 + abs(hashtext(device_id::text)) % 2`,
		`INSERT INTO push_wakeups (device_id, kind, seq, due_at, attempts) SELECT device_id, kind, 1, now(), 0 FROM push_tokens`,
	} {
		if _, err := inside.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	sender := &told{let: make(chan struct{}), some: func(int) {}}
	close(sender.let)
	for _, kind := range []Kind{FCM, APNs} {
		s.cfg.Senders[kind], s.logLimits[kind] = sender, &logLimiter{}
	}
	s.kinds = []int16{int16(FCM), int16(APNs)}
	back := testdb.Hang(t, url, 0)
	run(t, s.Run)
	defer back()
	began := time.Now()
	s.Schedule(ids...)
	s.Cancel(ids[slices.IndexFunc(ids, func(id core.DeviceID) bool { return s.of(id).number == 0 })])
	want := s.inBuckets(ids)
	wait.Eventually(t, "the others are woken up", func() bool {
		n := s.inBuckets(sender.devices())
		return n == [3]int{0, want[1], want[2]}
	})
	if took := time.Since(began); took > txTime {
		t.Errorf("it took %s", took)
	}
}
