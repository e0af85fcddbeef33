package gateway

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

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
			var status, mail, told bool
			for !status || !mail || !told {
				frame := f.next().frame(t)
				status = status || frame.GetPreKeyStatus() != nil
				told = told || frame.GetDrained() != nil
				mail = mail || len(frame.GetEnvelopeBatch().GetEnvelopes()) == 1
			}
			close(f.in)
			<-done
		})
	}
}

// A session ends, or a newer socket opens on another node, just before a socket is registered.
func TestASocketOfTheWrongTimeIsClosedWhenItBegins(t *testing.T) {
	t.Parallel()
	for _, code := range []int{closeRevoked, closeDisplaced} {
		inFakeTime(t, func(t *testing.T, b *fakeBox) {
			asked := make(chan struct{})
			b.meet(func(context.Context, string) error {
				<-asked
				return nil
			})
			f, bob, done := b.connect(t, 10, accepted{opened: mailbox.Opened{Generation: 1}})
			synctest.Wait()
			b.mu.Lock()
			b.generation = 1
			if code == closeRevoked {
				b.ended[bob.Session] = true
			} else {
				b.generation = 2
			}
			b.mu.Unlock()
			begun := time.Now()
			close(asked)
			closedWith(t, f, code)
			if took := time.Since(begun); took > 0 {
				t.Errorf("code %d comes after %s", code, took)
			}
			<-done
		})
	}
}

// A session ends just before its socket is registered, and mail comes before that is known: it is
// not sent. How long the other questions take does not matter.
func TestASocketWhoseSessionEndedGetsNoMail(t *testing.T) {
	t.Parallel()
	for _, slow := range []string{"sessions", "heads", "keys"} {
		inFakeTime(t, func(t *testing.T, b *fakeBox) {
			b.fill(3, 1)
			b.meet(func(_ context.Context, what string) error {
				if what == slow {
					time.Sleep(beginWithin + 100*time.Millisecond) // fake time
				}
				return nil
			})
			f := newFake(t, 10)
			bob := core.Principal{User: uuid.New(), Device: uuid.New(), Session: uuid.New(), DeviceNumber: 1}
			b.ended[bob.Session] = true
			begun := time.Now()
			done := f.start(b.Gateway, accepted{principal: bob, opened: mailbox.Opened{Last: 3}})
			synctest.Wait()
			b.Deliver(core.Notice{Kind: core.NoticeMail, IDs: []core.DeviceID{bob.Device}})
			closedWith(t, f, closeRevoked)
			most := time.Duration(0)
			if slow == "sessions" {
				most = 2*beginWithin + 100*time.Millisecond // it asks by itself, and waits for its answer
			}
			if took := time.Since(begun); took > most {
				t.Errorf("%s is slow: it is closed after %s", slow, took)
			}
			<-done
		})
	}
}

// What is told comes in its order, whatever happens while the socket begins: the status first.
func TestTheStatusComesFirst(t *testing.T) {
	t.Parallel()
	inFakeTime(t, func(t *testing.T, b *fakeBox) {
		asked := make(chan struct{})
		b.meet(func(_ context.Context, what string) error {
			if what == "heads" {
				<-asked
			}
			return nil
		})
		f, bob, done := b.connect(t, 10, accepted{})
		synctest.Wait()
		b.fill(1, 1)
		b.Deliver(core.Notice{Kind: core.NoticeMail, IDs: []core.DeviceID{bob.Device}})
		b.Deliver(core.Notice{Kind: core.NoticeKeys, IDs: []core.DeviceID{bob.Device}})
		synctest.Wait()
		if n := len(f.out); n != 0 {
			t.Errorf("%d frames before it has begun", n)
		}
		close(asked)
		if f.next().frame(t).GetPreKeyStatus() == nil {
			t.Error("the first frame is not the status")
		}
		for len(f.next().frame(t).GetEnvelopeBatch().GetEnvelopes()) == 0 {
		}
		close(f.in)
		<-done
	})
}

// One of the three questions fails, for as long as the test lasts: a socket is told all that does
// not depend on it. In the end it is told everything.
func TestAQuestionThatFailsKeepsNothingElseBack(t *testing.T) {
	t.Parallel()
	for what, failed := range map[string]func(context.Context, string) error{
		"heads": unavailable, "sessions": unavailable, "keys": hanging} {
		inFakeTime(t, func(t *testing.T, b *fakeBox) {
			b.fill(1, 1)
			b.meet(func(ctx context.Context, asked string) error {
				if asked == what {
					return failed(ctx, asked)
				}
				return nil
			})
			f, bob, done := b.connect(t, 10, accepted{opened: mailbox.Opened{Last: 1}})
			time.Sleep(12 * time.Second) // fake time
			var status, mail, drained bool
			read := func() {
				for len(f.out) > 0 {
					frame := f.next().frame(t)
					status = status || frame.GetPreKeyStatus().GetOneTimePreKeyCount() == 7
					mail = mail || len(frame.GetEnvelopeBatch().GetEnvelopes()) == 1
					drained = drained || mail && frame.GetDrained() != nil
				}
			}
			if read(); !mail || !drained || status != (what != "keys") {
				t.Errorf("%s fails: status %t, mail %t, drained %t", what, status, mail, drained)
			}
			if what == "sessions" { // it is still to be verified
				b.mu.Lock()
				b.ended[bob.Session] = true
				b.mu.Unlock()
			}
			b.meet(nil)
			time.Sleep(8 * time.Second) // fake time
			if what == "sessions" {
				closedWith(t, f, closeRevoked)
			} else {
				if read(); !status {
					t.Errorf("%s failed: no status", what)
				}
				close(f.in)
			}
			<-done
		})
	}
}

// Far more sockets come than are looked at in the time that a question may take.
func TestAStampedeOfSocketsBeginsWhileTheDatabaseIsSlow(t *testing.T) {
	t.Parallel()
	inFakeTime(t, func(t *testing.T, b *fakeBox) {
		b.meet(func(_ context.Context, what string) error {
			if what == "heads" {
				time.Sleep(4 * time.Second) // fake time
			}
			return nil
		})
		const sockets = 20 * pollStep
		fakes, done := make([]*fakeSocket, sockets), make([]<-chan struct{}, sockets)
		for i := range fakes {
			fakes[i], _, done[i] = b.connect(t, 10, accepted{})
		}
		for later := range 2 { // and those that come when the question has already taken long
			time.Sleep(beginWithin + time.Millisecond) // fake time
			f, _, ended := b.connect(t, 10, accepted{})
			fakes, done = append(fakes, f), append(done, ended)
			synctest.Wait()
			if later == 0 && len(f.out) != 2 {
				t.Error("a late one waits")
			}
		}
		for i, f := range fakes {
			if len(f.out) != 2 { // status and the end of the backlog
				t.Fatalf("socket %d has not begun", i)
			}
			close(f.in)
		}
		for i := range fakes {
			<-done[i]
		}
		if n := b.times("heads"); n != 1 {
			t.Errorf("%d shared questions, want the one that is slow", n)
		}
	})
}

// A database in which a question hangs delays what a socket must be told, or closed for, by less
// than a second.
func TestAQuestionThatHangsHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	for _, what := range []string{"heads", "keys"} {
		inFakeTime(t, func(t *testing.T, b *fakeBox) {
			b.fill(1, 1)
			b.meet(func(ctx context.Context, asked string) error {
				if asked == what {
					return hanging(ctx, asked)
				}
				return nil
			})
			ended := accepted{opened: mailbox.Opened{Last: 1}}
			revoked := newFake(t, 10)
			ended.principal = core.Principal{User: uuid.New(), Device: uuid.New(), Session: uuid.New(), DeviceNumber: 1}
			b.ended[ended.principal.Session] = true
			begun := time.Now()
			revokedDone := revoked.start(b.Gateway, ended)
			f, _, done := b.connect(t, 10, accepted{opened: mailbox.Opened{Last: 1}})
			for revoked.next().kind != closeMessage {
			}
			if took := time.Since(begun); took > beginWithin {
				t.Errorf("%s hangs: a session that ended is closed after %s", what, took)
			}
			close(revoked.in)
			<-revokedDone
			for mail := false; !mail; {
				mail = len(f.next().frame(t).GetEnvelopeBatch().GetEnvelopes()) == 1
			}
			if took, most := time.Since(begun), beginWithin+queryWithin; took > most || what == "heads" && took > beginWithin {
				t.Errorf("%s hangs: mail comes after %s", what, took)
			}
			close(f.in)
			<-done
		})
	}
}

// The buckets of some mailboxes are unavailable: then nothing is known of these, and not that they
// are empty.
func TestAMailboxOfWhichNothingIsKnownIsRead(t *testing.T) {
	t.Parallel()
	inFakeTime(t, func(t *testing.T, b *fakeBox) {
		b.fill(1, 1)
		b.unknown = true
		f, _, done := b.connect(t, 10, accepted{opened: mailbox.Opened{Last: 1}})
		opening(t, f)
		if n := len(f.next().frame(t).GetEnvelopeBatch().GetEnvelopes()); n != 1 {
			t.Errorf("%d envelopes", n)
		}
		close(f.in)
		<-done
	})
}
