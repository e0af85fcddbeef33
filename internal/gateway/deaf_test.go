package gateway

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/obscura-relay/obscura/internal/core"
)

// polling runs the poll until the test ends.
func (b *fakeBox) polling() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = b.Run(ctx) })
	return func() { cancel(); running.Wait() }
}

// devices are those with a socket.
func (b *fakeBox) devices() (ids []core.DeviceID) {
	for _, s := range b.snapshot() {
		ids = append(ids, s.device)
	}
	return ids
}

// session is the only one.
func (b *fakeBox) session() *session { return b.snapshot()[0] }

// The bus falls silent, and the next moment a session ends: its socket closes within a second, also
// when the database takes its time.
func TestARevokedSocketEndsWithinASecondAlthoughTheBusIsSilent(t *testing.T) {
	t.Parallel()
	for offset := range 10 { // to the ticks of the poll
		inFakeTime(t, func(t *testing.T, b *fakeBox) {
			f, bob, done := b.connect(t, 0, accepted{})
			drained(t, f)
			b.meet(func(context.Context, string) error {
				time.Sleep(50 * time.Millisecond) // fake time
				return nil
			})
			defer b.polling()()
			time.Sleep(10*time.Second + time.Duration(offset)*37*time.Millisecond) // fake time
			b.mu.Lock()
			b.heard, b.ended[bob.Session] = time.Now(), true
			b.mu.Unlock()
			revoked := time.Now()
			closedWith(t, f, closeRevoked)
			if took := time.Since(revoked); took > 900*time.Millisecond {
				t.Errorf("offset %d: it took %s", offset, took)
			}
			<-done
		})
	}
}

// It does so also when the mailboxes hang: the sessions are asked first.
func TestARevokedSocketEndsWithinASecondAlthoughTheMailboxesHang(t *testing.T) {
	t.Parallel()
	inFakeTime(t, func(t *testing.T, b *fakeBox) {
		f, bob, done := b.connect(t, 0, accepted{})
		drained(t, f)
		defer b.connectSome(t, pollStep)() // bob may be in the second step of the poll
		b.meet(func(ctx context.Context, what string) error {
			if what == "heads" {
				return hanging(ctx, what)
			}
			return nil
		})
		b.mu.Lock()
		b.ended[bob.Session] = true
		b.mu.Unlock()
		defer b.polling()()
		begin := time.Now()
		closedWith(t, f, closeRevoked)
		if took := time.Since(begin); took > time.Second {
			t.Errorf("it took %s", took)
		}
		<-done
	})
}

// One bucket is away: the poll goes on with the mailboxes of the others, says so once, and asks
// again within a second.
func TestAPollThatMissesSomeMailboxesIsRepeated(t *testing.T) {
	t.Parallel()
	inFakeTime(t, func(t *testing.T, b *fakeBox) {
		f, _, done := b.connect(t, 10, accepted{})
		drained(t, f)
		defer b.connectSome(t, pollStep)() // a second step
		synctest.Wait()                    // they have been looked at
		b.mu.Lock()
		b.missed = core.Busy(nil)
		b.mu.Unlock()
		heads := b.times("heads")
		defer b.polling()()
		time.Sleep(5*time.Second + pollTick/2) // fake time
		if n := b.times("heads") - heads; n < 8 || n > 12 {
			t.Errorf("%d questions in 5 seconds", n)
		}
		if log := b.logged.String(); strings.Count(log, "mailboxes of live sockets") != 1 {
			t.Errorf("the log: %s", log)
		}
		close(f.in)
		<-done
	})
}

// A bus that hears costs nothing: no polls between the polls.
func TestANodeThatHearsDoesNotPollMore(t *testing.T) {
	t.Parallel()
	inFakeTime(t, func(t *testing.T, b *fakeBox) {
		f, _, done := b.connect(t, 100, accepted{})
		defer b.polling()()
		time.Sleep(20 * time.Second) // fake time
		// The first one, and no other; and one look at the socket when it began.
		if n := b.times("heads"); n != 1+1 {
			t.Errorf("%d polls", n)
		}
		close(f.in)
		<-done
	})
}

// After notices may have been missed all mailboxes are looked at with two questions for every 500,
// and read where there is something.
func TestWakingAllAsksInBatches(t *testing.T) {
	t.Parallel()
	inFakeTime(t, func(t *testing.T, b *fakeBox) {
		const n = 600
		var sockets []*fakeSocket
		var ends []<-chan struct{}
		for range n {
			f, _, done := b.connect(t, 10, accepted{})
			sockets, ends = append(sockets, f), append(ends, done)
		}
		defer b.polling()()
		time.Sleep(time.Second) // fake time
		heads, reads, sessions := b.times("heads"), b.times("read"), b.times("sessions")
		b.LookAtAll()
		b.LookAtAll()
		synctest.Wait()
		if h, r, s := b.times("heads")-heads, b.times("read")-reads, b.times("sessions")-sessions; h == 0 || h > 4 ||
			r != 0 || s > 4 {
			t.Errorf("%d, %d and %d questions", h, r, s)
		}
		b.fill(1, 1)
		b.LookAtAll()
		synctest.Wait()
		for i, f := range sockets {
			drained(t, f)
			if len(f.out) != 1 || len(f.next().frame(t).GetEnvelopeBatch().GetEnvelopes()) != 1 {
				t.Fatal("nothing was delivered")
			}
			close(f.in)
			<-ends[i]
		}
	})
}

// A poll that fails is not left for the next one.
func TestAPollThatFailedIsRepeated(t *testing.T) {
	t.Parallel()
	inFakeTime(t, func(t *testing.T, b *fakeBox) {
		f, _, done := b.connect(t, 10, accepted{})
		drained(t, f)
		b.meet(unavailable)
		b.fill(1, 1)
		defer b.polling()()
		b.LookAtAll()
		time.Sleep(5 * time.Second) // fake time
		b.meet(nil)
		begin := time.Now()
		if len(f.next().frame(t).GetEnvelopeBatch().GetEnvelopes()) != 1 || time.Since(begin) > 2*retryAfter {
			t.Errorf("after %s", time.Since(begin))
		}
		close(f.in)
		<-done
	})
}
