package gateway_test

import (
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
	"github.com/obscura-relay/obscura/internal/kit/wait"
)

// The tests of this file measure the whole process, so they are not parallel: they run before those
// that are.

func heap() uint64 {
	runtime.GC()
	runtime.GC() // what the first one found in a pool
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestAReaderThatStopsReadingCostsLessThan1MiBAndNobodyElseNotices(t *testing.T) {
	const warm, measured, waiting = 9, 9, 6 << 20 // more than the relay has database connections, and the kernel takes
	relay := relaytest.Start(t, e2e.SlowPoll)
	alice, bob := relay.Register(t).NewDevice(t), relay.Register(t).NewDevice(t)
	readers := e2e.Devices(t, relay, warm+measured)
	for _, d := range readers {
		fillMailbox(t, alice, d, waiting)
	}
	live := bob.Connect(t)
	live.Drain()
	stick := func(readers []*relaytest.Device) (bytes uint64) {
		delivered := e2e.Meter(t, relay, "obscura_envelopes_delivered_total")
		e2e.Together(len(readers), func(i int) { dialRawOrFail(t, relay, readers[i].Token) })
		last, quiet := delivered, 0
		wait.Eventually(t, "every writer is stuck", func() bool {
			now := e2e.Meter(t, relay, "obscura_envelopes_delivered_total")
			if quiet++; now != last || now < delivered+float64(len(readers)) {
				quiet = 0
			}
			last = now
			return quiet >= 10
		})
		if pages := (last - delivered) / float64(len(readers)) / 2; pages > waiting/(383<<10) {
			t.Fatal("nobody is stuck: the kernel has taken everything")
		}
		return heap()
	}
	// The first ones also fill the buffers that all share, those of the database's connections
	// above all.
	before := stick(readers[:warm])
	after := stick(readers[warm:])
	if after > before+measured<<20 {
		t.Errorf("a stuck reader costs %d KiB", (after-before)>>10/measured)
	}
	t.Logf("%d KiB each", (int64(after)-int64(before))>>10/measured)
	start := time.Now()
	for range 50 {
		alice.Send(t, nil, relaytest.To(bob.ID, "at once"))
		live.Ack(live.Envelopes(1)...)
	}
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("50 messages to somebody else took %s", took)
	}
	if n := e2e.Meter(t, relay, "obscura_live_sockets"); n != warm+measured+1 {
		t.Errorf("%v sockets are left: the measurement came too late", n)
	}
}

// Two thousand connects, that end in every way, leave neither a goroutine nor a file open. One in a
// hundred that did would be seen; ten thousand, under the race detector, keep two cores busy for
// half a minute and show nothing else.
func TestManyConnectsInARowLeaveNothingBehind(t *testing.T) {
	const lanes = 8
	relay := relaytest.Start(t)
	all := e2e.Devices(t, relay, 2*lanes)
	connect := func(lane, i int) error {
		s, err := dialRaw(t.Context(), t, relay, all[2*lane+i%2].Token)
		if err != nil {
			return err
		}
		if i%3 > 0 {
			if _, err := s.Frame(); err != nil {
				return err
			}
		}
		switch i % 4 {
		case 0:
			s.reset()
		case 1:
			_ = s.Close(1000, "")
		default:
			_ = s.CloseNow()
		}
		return nil
	}
	many := func(n int) {
		e2e.Together(lanes, func(lane int) {
			for i := range n / lanes {
				if err := connect(lane, i); err != nil {
					t.Error(err)
					return
				}
			}
		})
		wait.Eventually(t, "all sockets have ended", func() bool {
			return e2e.Meter(t, relay, "obscura_live_sockets") == 0
		})
	}
	many(20 * lanes)
	goroutines, files := runtime.NumGoroutine(), openFiles(t)
	many(2_000)
	// A few of each come and go with the pools of the HTTP server and the database.
	wait.Eventually(t, "goroutines and files are back where they were", func() bool {
		return runtime.NumGoroutine() <= goroutines+20 && openFiles(t) <= files+20
	})
}

func openFiles(t *testing.T) int {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}
