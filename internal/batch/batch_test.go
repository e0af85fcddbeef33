package batch

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/obscura-relay/obscura/internal/core"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var wide = Limits{BatchItems: 100, BatchWeight: 1000, QueueItems: 1000, QueueWeight: 10000}

// harness runs a batcher whose work waits for a gate, so that a test decides what a batch holds.
type harness struct {
	*Batcher[int, int]
	gate    chan error
	batches [][]int
	stop    func()
}

func start(limits Limits) *harness {
	h := &harness{gate: make(chan error)}
	h.Batcher = New(limits, func(_ context.Context, items []int) ([]int, error) {
		h.batches = append(h.batches, items)
		if err := <-h.gate; err != nil {
			return nil, err
		}
		out := make([]int, len(items))
		for i, n := range items {
			out[i] = n * 10
		}
		return out, nil
	})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = h.Run(ctx) })
	h.stop = func() { cancel(); wg.Wait() }
	return h
}

func TestCallsDuringABatchFormTheNextOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(wide)
		var wg sync.WaitGroup
		ask := func(n int) {
			wg.Go(func() {
				if got, err := h.Do(t.Context(), n, 1); err != nil || got != n*10 {
					t.Errorf("Do(%d) = %d, %v", n, got, err)
				}
			})
			synctest.Wait() // the order of arrival is the order of these calls
		}
		ask(1)
		ask(2)
		ask(3)
		h.gate <- nil
		synctest.Wait()
		h.gate <- nil
		wg.Wait()
		if len(h.batches) != 2 || len(h.batches[0]) != 1 || len(h.batches[1]) != 2 || h.batches[1][0] != 2 {
			t.Errorf("batches = %v, want [[1] [2 3]]", h.batches)
		}
		h.stop()
	})
}

// TestABatchWaitsForCompanyWhenItComes has work that takes no time, and calls that come evenly.
func TestABatchWaitsForCompanyWhenItComes(t *testing.T) {
	for _, c := range []struct {
		every       time.Duration
		least, most float64 // calls in a batch, on average
		longest     time.Duration
	}{
		{every: 100 * time.Millisecond, least: 1, most: 1},
		{every: time.Millisecond, least: 1, most: 1},
		{every: 500 * time.Microsecond, least: 2, most: 4, longest: time.Millisecond},
		{every: 10 * time.Microsecond, least: 80, most: 110, longest: time.Millisecond},
	} {
		synctest.Test(t, func(t *testing.T) { // fake time
			var batches atomic.Int32
			b := New(Limits{BatchItems: 1000, BatchWeight: 1000, QueueItems: 1000, QueueWeight: 1000,
				Gather: time.Millisecond},
				func(_ context.Context, items []int) ([]int, error) { batches.Add(1); return items, nil })
			ctx, cancel := context.WithCancel(t.Context())
			var running, calls sync.WaitGroup
			running.Go(func() { _ = b.Run(ctx) })
			var longest time.Duration
			var mu sync.Mutex
			ask := func() {
				begun := time.Now()
				if got, err := b.Do(ctx, 7, 1); got != 7 || err != nil {
					t.Errorf("%d, %v", got, err)
				}
				mu.Lock()
				defer mu.Unlock()
				longest = max(longest, time.Since(begun))
			}
			const warm, many = 200 * time.Millisecond, 1000
			for begun := time.Now(); time.Since(begun) < warm; {
				calls.Go(ask)
				time.Sleep(c.every) // fake time
			}
			batches.Store(0)
			for range many {
				calls.Go(ask)
				time.Sleep(c.every) // fake time
			}
			calls.Wait()
			if each := float64(many) / float64(batches.Load()); each < c.least || each > c.most ||
				longest != c.longest {
				t.Errorf("every %s: %.1f calls a batch, the longest took %s", c.every, each, longest)
			}
			time.Sleep(time.Second) // fake time
			begun := time.Now()
			ask()
			if took := time.Since(begun); took != 0 {
				t.Errorf("every %s: a lone call later took %s", c.every, took)
			}
			cancel()
			running.Wait()
		})
	}
}

func TestAFailureFailsItsBatchOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(wide)
		boom := errors.New("boom")
		errs := make(chan error, 2)
		for n := range 2 {
			go func() { _, err := h.Do(t.Context(), n, 1); errs <- err }()
			synctest.Wait()
		}
		h.gate <- boom
		if err := <-errs; !errors.Is(err, boom) {
			t.Errorf("first batch: %v, want %v", err, boom)
		}
		h.gate <- nil
		if err := <-errs; err != nil {
			t.Errorf("second batch: %v, want none", err)
		}
		h.stop()
	})
}

func TestTheQueueIsBounded(t *testing.T) {
	for name, limits := range map[string]Limits{
		"by count":  {BatchItems: 1, BatchWeight: 100, QueueItems: 2, QueueWeight: 100},
		"by weight": {BatchItems: 1, BatchWeight: 100, QueueItems: 100, QueueWeight: 8},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := start(limits)
				var wg sync.WaitGroup
				for n := range 3 { // one at work, two waiting
					wg.Go(func() { _, _ = h.Do(t.Context(), n, 4) })
					synctest.Wait()
				}
				if _, err := h.Do(t.Context(), 9, 4); !errors.Is(err, ErrFull) {
					t.Errorf("Do on a full queue = %v, want ErrFull", err)
				}
				for range 3 {
					h.gate <- nil
					synctest.Wait()
				}
				wg.Wait()
				h.stop()
			})
		})
	}
}

func TestStoppingWorksOffTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(wide)
		errs := make(chan error, 3)
		for n := range 3 {
			go func() { _, err := h.Do(t.Context(), n, 1); errs <- err }()
			synctest.Wait()
		}
		go h.stop()
		synctest.Wait()
		h.gate <- nil
		h.gate <- nil
		for range 3 {
			if err := <-errs; err != nil {
				t.Errorf("accepted before the stop: %v", err)
			}
		}
		synctest.Wait()
		if _, err := h.Do(t.Context(), 1, 1); !errors.Is(err, errStopped) {
			t.Errorf("Do after the stop = %v, want errStopped", err)
		}
	})
}

func TestLightCallsDoNotWaitForHeavyOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(Limits{BatchItems: 4, BatchWeight: 25, QueueItems: 100, QueueWeight: 1000, Light: 1})
		var wg sync.WaitGroup
		for i, n := range []int{10, 20, 21, 22, 1, 2, 3, 4, 23, 5} { // from 10 on they are heavy
			weight := 1
			if n >= 10 {
				weight = 10
			}
			wg.Go(func() { _, _ = h.Do(t.Context(), n, weight) })
			if synctest.Wait(); i == 0 && len(h.batches) != 1 {
				t.Error("the first one waits")
			}
		}
		if h.Len() != 9 {
			t.Errorf("%d wait", h.Len())
		}
		for range 4 {
			h.gate <- nil
			synctest.Wait()
		}
		// Each batch takes a heavy one, or it would wait for ever; what fits follows.
		want := [][]int{{10}, {20, 1, 2, 3}, {21, 4, 5, 22}, {23}}
		if !slices.EqualFunc(h.batches, want, slices.Equal) {
			t.Errorf("%v", h.batches)
		}
		h.stop()
		wg.Wait()
	})
}

// A heavy call that fills a batch by itself leaves room for light ones.
func TestHeaviestCallsDoNotStarveLightOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(Limits{BatchItems: 9, BatchWeight: 10, QueueItems: 99, QueueWeight: 999, Light: 1})
		var wg sync.WaitGroup
		for _, n := range []int{10, 20, 21, 1, 2, 3, 4, 5, 6} { // from 10 on they fill more than a batch
			weight := 1
			if n >= 10 {
				weight = 12
			}
			wg.Go(func() { _, _ = h.Do(t.Context(), n, weight) })
			synctest.Wait()
		}
		for range 3 {
			h.gate <- nil
			synctest.Wait()
		}
		want := [][]int{{10}, {20, 1, 2, 3, 4, 5}, {21, 6}}
		if !slices.EqualFunc(h.batches, want, slices.Equal) || h.Full() != 0 {
			t.Errorf("%v, and the queue is full by %v", h.batches, h.Full())
		}
		h.stop()
		wg.Wait()
	})
}

// What has been worked on is not kept while later calls wait.
func TestFinishedCallsAreLetGo(t *testing.T) {
	const large = 8 << 20
	begun := make(chan struct{})
	gate := make(chan struct{})
	b := New(Limits{BatchItems: 1, BatchWeight: 1, QueueItems: 9, QueueWeight: 9},
		func(_ context.Context, items [][]byte) ([]int, error) {
			begun <- struct{}{}
			<-gate
			return make([]int, len(items)), nil
		})
	calls := make(chan error)
	do := func(size int) {
		go func() { _, err := b.Do(context.Background(), make([]byte, size), 0); calls <- err }()
	}
	waiting := func(n int) {
		for b.Len() != n {
			runtime.Gosched()
		}
	}
	do(large)
	waiting(1)
	do(1)
	waiting(2)
	do(1) // all in one array
	waiting(3)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = b.Run(ctx) })
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	<-begun
	before := heap()
	gate <- struct{}{}
	if err := <-calls; err != nil {
		t.Error(err)
	}
	<-begun
	if after := heap(); before < after+large/2 {
		t.Errorf("%d bytes before, %d after", before, after)
	}
	close(gate)
	<-begun
	for range 2 {
		if err := <-calls; err != nil {
			t.Error(err)
		}
	}
	cancel()
	wg.Wait()
}

func TestACallerMayLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(wide)
		ctx, cancel := context.WithCancel(t.Context())
		left := make(chan error, 1)
		go func() { _, err := h.Do(ctx, 1, 1); left <- err }()
		synctest.Wait()
		cancel()
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Errorf("Do = %v, want context.Canceled", err)
		}
		h.gate <- nil
		h.stop()
	})
}

func BenchmarkDo(b *testing.B) {
	bt := New(wide, func(_ context.Context, items []int) ([]int, error) { return items, nil })
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { _ = bt.Run(ctx) }()
	b.ReportAllocs()
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := bt.Do(ctx, 1, 1); err != nil {
				b.Error(err)
			}
		}
	})
}

func TestACallSaysHowLongItWaitedForItsTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(wide)
		defer h.stop()
		var sums [3]func() time.Duration
		var all sync.WaitGroup
		for i := range sums {
			var ctx context.Context
			ctx, sums[i] = core.WithWaited(t.Context())
			if i == 2 { // gives up
				c, cancel := context.WithTimeout(ctx, time.Second)
				defer cancel()
				ctx = c
			}
			all.Go(func() { _, _ = h.Do(ctx, i, 1) })
			synctest.Wait()
		}
		time.Sleep(3 * time.Second) // fake time
		h.gate <- nil
		time.Sleep(5 * time.Second) // fake time
		h.gate <- nil
		all.Wait()
		for i, want := range []time.Duration{0, 3 * time.Second, time.Second} {
			if got := sums[i](); got != want {
				t.Errorf("call %d waited %s, want %s", i, got, want)
			}
		}
	})
}
