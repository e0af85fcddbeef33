package gateway

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/core/mailbox"
)

// Many sockets that begin at once ask together, and those with an empty mailbox read nothing.
func TestSocketsThatBeginTogetherAskTogether(t *testing.T) {
	t.Parallel()
	inFakeTime(t, func(t *testing.T, b *fakeBox) {
		first := make(chan struct{})
		b.meet(func(_ context.Context, what string) error {
			if what == "heads" {
				<-first
			}
			return nil
		})
		const sockets = 40
		fakes, done := make([]*fakeSocket, sockets), make([]<-chan struct{}, sockets)
		for i := range fakes {
			fakes[i], _, done[i] = b.connect(t, 10, accepted{})
			synctest.Wait() // the first one asks, the others wait behind it
		}
		close(first)
		for i, f := range fakes {
			drained(t, f)
			close(f.in)
			<-done[i]
		}
		for _, what := range []string{"heads", "sessions", "keys"} {
			if n := b.times(what); n != 2 {
				t.Errorf("%d times %s, want the first socket's and all others'", n, what)
			}
		}
		if n := b.times("read") + b.times("gaps"); n != 0 {
			t.Errorf("%d questions about empty mailboxes", n)
		}
	})
}

// Mail comes just after it was found that there is none.
func TestMailThatComesWhileASocketBeginsIsDelivered(t *testing.T) {
	t.Parallel()
	for _, before := range []bool{true, false} { // the question for the mailbox is answered
		inFakeTime(t, func(t *testing.T, b *fakeBox) {
			asked := make(chan struct{})
			b.meet(func(_ context.Context, what string) error {
				if before && what == "heads" || !before && what == "keys" {
					<-asked
				}
				return nil
			})
			f, _, done := b.connect(t, 0, accepted{})
			synctest.Wait()
			b.fill(1, 1)
			b.Deliver(core.Notice{Kind: core.NoticeMail, IDs: b.devices()})
			close(asked)
			opening(t, f)
			var mail, told bool
			for !mail || !told {
				frame := f.next().frame(t)
				told = told || frame.GetDrained() != nil
				mail = mail || len(frame.GetEnvelopeBatch().GetEnvelopes()) == 1
			}
			close(f.in)
			<-done
		})
	}
}

// A question for many fails. Then each asks for itself.
func TestSocketsWhoseQuestionFailsAskAlone(t *testing.T) {
	t.Parallel()
	inFakeTime(t, func(t *testing.T, b *fakeBox) {
		first, heads := make(chan struct{}), 0
		b.meet(func(_ context.Context, what string) error {
			if what != "heads" {
				return nil
			}
			b.mu.Lock()
			heads++
			n := heads
			b.mu.Unlock()
			switch n {
			case 1:
				<-first
			case 2:
				return errors.New("the database is unavailable")
			}
			return nil
		})
		const sockets = 5
		fakes, done := make([]*fakeSocket, sockets), make([]<-chan struct{}, sockets)
		for i := range fakes {
			fakes[i], _, done[i] = b.connect(t, 10, accepted{})
			synctest.Wait()
		}
		close(first)
		for i, f := range fakes {
			drained(t, f)
			close(f.in)
			<-done[i]
		}
		if n := b.times("heads"); n != 2+sockets-1 {
			t.Errorf("%d questions", n)
		}
	})
}

// The buckets of some mailboxes are unavailable: then nothing is known of these, and not that they
// are empty.
func TestAMailboxOfWhichNothingIsKnownIsAskedForAgain(t *testing.T) {
	t.Parallel()
	inFakeTime(t, func(t *testing.T, b *fakeBox) {
		b.fill(1, 1)
		b.unknown = true
		f, _, done := b.connect(t, 10, accepted{opened: mailbox.Opened{Last: 1}})
		g, _, gDone := b.connect(t, 10, accepted{opened: mailbox.Opened{Last: 1}})
		time.Sleep(10 * time.Second) // fake time
		if len(f.out)+len(g.out) != 0 {
			t.Error("something was sent")
		}
		b.mu.Lock()
		b.unknown = false
		b.mu.Unlock()
		for _, f := range []*fakeSocket{f, g} {
			opening(t, f)
			if n := len(f.next().frame(t).GetEnvelopeBatch().GetEnvelopes()); n != 1 {
				t.Errorf("%d envelopes", n)
			}
			close(f.in)
		}
		<-done
		<-gDone
	})
}
