package gateway_test

import (
	"context"
	"testing"
	"time"

	"github.com/obscura-relay/obscura/internal/app"
	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
	"github.com/obscura-relay/obscura/internal/kit/wait"
)

func TestStoppingClosesEverySocketAndKeepsEveryAcknowledgement(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	alice, user := relay.Register(t).NewDevice(t), relay.Register(t)
	db := e2e.Database(t, relay)
	const n = 5
	codes := make(chan int, n)
	for range n {
		bob := user.NewDevice(t)
		e2e.SendMany(t, alice, bob, "m", 200)
		socket := bob.Connect(t)
		all, _, _ := socket.Drain()
		go func() { codes <- socket.CloseCode() }()
		for _, e := range all { // one frame each: many are still being worked on when the relay stops
			socket.Ack(e)
		}
		// The relay has read them all when it answers a ping that came after them.
		ctx, cancel := context.WithTimeout(t.Context(), relaytest.Patience)
		if err := socket.Ping(ctx); err != nil {
			t.Errorf("no pong: %v", err)
		}
		cancel()
	}
	relay.Stop()
	for range n {
		if code := <-codes; code != 1001 {
			t.Errorf("closed with %d", code)
		}
	}
	if n := e2e.Count(t, db, "SELECT count(*) FROM messages"); n != 0 {
		t.Errorf("%d acknowledged envelopes are still there", n)
	}
	if n := e2e.Count(t, db, "SELECT coalesce(sum(pending), 0) FROM mailboxes"); n != 0 {
		t.Errorf("mailboxes count %d pending", n)
	}
}

func TestADrainClosesSocketsOneAfterTheOther(t *testing.T) {
	t.Parallel()
	const n, drain = 40, 2 * time.Second
	relay := relaytest.Start(t, func(cfg *app.Config) { cfg.DrainTime = drain })
	devices, closed := make([]*relaytest.Device, n), make(chan time.Time, n)
	var user *relaytest.User
	for i := range devices {
		if i%10 == 0 { // of ten devices each
			user = relay.Register(t)
		}
		devices[i] = user.NewDevice(t)
		socket := devices[i].Connect(t)
		socket.Drain()
		go func() {
			if code := socket.CloseCode(); code != 1012 {
				t.Errorf("closed with %d", code)
			}
			closed <- time.Now()
		}()
	}
	begun := time.Now()
	relay.Stop()
	took := time.Since(begun)
	first := <-closed
	last := first
	for range n - 1 {
		last = <-closed
	}
	if first.Sub(begun) > drain/2 || last.Sub(first) < drain/2 || took < drain/2 {
		t.Errorf("from %s to %s after the stop, which took %s", first.Sub(begun), last.Sub(begun), took)
	}
}

// A reader that has stopped reading holds the writer; stopping must not wait for its write
// deadline.
func TestStoppingIsBoundedWithAReaderThatIsStuck(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t, func(cfg *app.Config) { cfg.ShutdownTimeout = time.Second })
	alice, bob := relay.Register(t).NewDevice(t), relay.Register(t).NewDevice(t)
	dialRawOrFail(t, relay, bob.Token)
	fillMailbox(t, alice, bob, 12<<20)
	wait.Eventually(t, "the writer is stuck", func() bool {
		before := e2e.Meter(t, relay, "obscura_envelopes_delivered_total")
		for range 10 {
			_ = e2e.Meter(t, relay, "obscura_live_sockets")
		}
		after := e2e.Meter(t, relay, "obscura_envelopes_delivered_total")
		return before == after && after > 0 && after < 64
	})
	start := time.Now()
	relay.Stop()
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("stopping took %s", took)
	}
}

// Requests and upgrades that come while the relay stops end as well: the package's TestMain fails
// on any goroutine that is left.
func TestStoppingWhileClientsConnectLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	all := e2e.Devices(t, relay, 4)
	stop := make(chan struct{})
	connecting := make(chan struct{}, len(all))
	done := make(chan struct{})
	go func() {
		defer close(done)
		e2e.Together(len(all), func(i int) {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if s, err := dialRaw(context.Background(), t, relay, all[i].Token); err == nil {
					_, _ = s.Frame()
					s.reset()
					select {
					case connecting <- struct{}{}:
					default:
					}
				}
			}
		})
	}()
	for range len(all) {
		<-connecting
	}
	start := time.Now()
	relay.Stop()
	if took := time.Since(start); took > 8*time.Second {
		t.Errorf("stopping took %s", took)
	}
	close(stop)
	<-done
}
