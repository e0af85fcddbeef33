package gateway

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/core/mailbox"
)

// unavailable and hanging are what happens to databases.
func unavailable(context.Context, string) error { return core.Busy(context.Canceled) }

func hanging(ctx context.Context, _ string) error {
	<-ctx.Done()
	return ctx.Err()
}

// A socket survives a database that is unavailable, or that does not answer: it is pinged in time
// for its client not to be given up, and told everything when the database is back.
func TestASocketSurvivesADatabaseThatIsAway(t *testing.T) {
	t.Parallel()
	for name, trouble := range map[string]func(context.Context, string) error{"unavailable": unavailable,
		"hanging": hanging} {
		t.Run(name, func(t *testing.T) {
			inFakeTime(t, func(t *testing.T, b *fakeBox) {
				b.fill(1, 1)
				b.meet(trouble)
				f, _, done := b.connect(t, 0, accepted{opened: mailbox.Opened{Last: 1}})
				for last := range 10 {
					begin := time.Now()
					if w := f.next(); w.kind != pingMessage || w.at.Sub(begin) < 24*time.Second ||
						w.at.Sub(begin) > 36*time.Second {
						t.Fatalf("kind %d after %s, want ping %d", w.kind, w.at.Sub(begin), last)
					}
					time.Sleep(4 * time.Second) // fake time
					if err := f.pong(""); err != nil {
						t.Fatal(err)
					}
				}
				b.meet(nil)
				begin := time.Now()
				var status, mail, drained bool
				for !status || !mail || !drained { // the status may come last
					frame := f.next().frame(t)
					status = status || frame.GetPreKeyStatus().GetOneTimePreKeyCount() == 7
					mail = mail || len(frame.GetEnvelopeBatch().GetEnvelopes()) == 1
					drained = drained || mail && frame.GetDrained() != nil
				}
				if took := time.Since(begin); took > queryWithin+retryAfter {
					t.Errorf("it took %s", took)
				}
				close(f.in)
				<-done
			})
		})
	}
}

// A ping does not wait for one slow question after another.
func TestAPingWaitsForOneQuestionAtMost(t *testing.T) {
	t.Parallel()
	inFakeTime(t, func(t *testing.T, b *fakeBox) {
		b.meet(func(context.Context, string) error {
			time.Sleep(queryWithin - time.Millisecond) // fake time
			return nil
		})
		b.fill(1, 1)
		f, _, done := b.connect(t, 0, accepted{})
		opening(t, f)
		time.Sleep(time.Second) // fake time: the mailbox is being read, and then gaps are
		b.session().kick(doPing)
		kicked := time.Now()
		if w := f.next(); w.kind != pingMessage || w.at.Sub(kicked) > queryWithin {
			t.Errorf("kind %d after %s", w.kind, w.at.Sub(kicked))
		}
		close(f.in)
		<-done
	})
}

// One connection to the database hangs, and the poll has got hold of it.
func TestThePollSurvivesAQuestionThatHangs(t *testing.T) {
	t.Parallel()
	for _, what := range []string{"heads", "sessions"} {
		t.Run(what, func(t *testing.T) {
			inFakeTime(t, func(t *testing.T, b *fakeBox) {
				f, bob, done := b.connect(t, 0, accepted{})
				drained(t, f)
				b.mu.Lock()
				code := closeDisplaced
				if what == "heads" {
					b.generation = 7
				} else {
					b.ended[bob.Session], code = true, closeRevoked
				}
				b.mu.Unlock()
				hung := 0
				b.meet(func(ctx context.Context, asked string) error {
					if asked != what || hung > 0 {
						return nil
					}
					hung++
					return hanging(ctx, asked)
				})
				ctx, cancel := context.WithCancel(t.Context())
				polling := make(chan error, 1)
				begin := time.Now()
				go func() { polling <- b.Run(ctx) }()
				closedWith(t, f, code)
				if took := time.Since(begin); took < queryWithin || took > queryWithin+2*retryAfter {
					t.Errorf("it took %s", took)
				}
				<-done
				b.meet(hanging)
				b.LookAtAll()
				synctest.Wait()
				cancel() // does not wait for the database
				if err := <-polling; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// A bug that meets one session ends that session, and is told in the log as one in a handler is.
func TestAPanicEndsOneSession(t *testing.T) {
	t.Parallel()
	inFakeTime(t, func(t *testing.T, b *fakeBox) {
		other, _, otherDone := b.connect(t, 0, accepted{})
		drained(t, other)
		b.meet(func(context.Context, string) error { panic("a bug") })
		f, _, done := b.connect(t, 0, accepted{})
		closedWith(t, f, 1011)
		<-done
		b.meet(nil)
		b.fill(1, 1)
		b.Deliver(core.Notice{Kind: core.NoticeMail, IDs: b.devices()})
		if got := other.next().frame(t).GetEnvelopeBatch().GetEnvelopes(); len(got) != 1 {
			t.Errorf("%v", got)
		}
		close(other.in)
		<-otherDone
		// once of the session, and once of each question that was put for it with others
		if log := b.logged.String(); strings.Count(log, "a gateway session panicked") != 1 ||
			strings.Count(log, "a bug") != 1+3 || !strings.Contains(log, "level=ERROR") ||
			!strings.Contains(log, "verify") {
			t.Errorf("the log: %s", log)
		}
		if b.opened != 2 || b.closed != 2 {
			t.Errorf("%d sockets opened, %d closed", b.opened, b.closed)
		}
	})
}
