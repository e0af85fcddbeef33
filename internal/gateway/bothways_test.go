package gateway

import (
	"context"
	"errors"
	"testing"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/core/mailbox"
)

// An acknowledgement that was not taken ends the socket, and the envelope comes again on the next
// one. So does one that was taken and whose answer was lost, and then the envelope does not come
// again.
func TestAnAcknowledgementThatFailsEndsTheSocket(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(*fakeBox){
		"refused":                        func(b *fakeBox) { b.meet(unavailable) },
		"taken, and the answer was lost": func(b *fakeBox) { b.lose("acknowledge") },
	} {
		t.Run(name, func(t *testing.T) {
			inFakeTime(t, func(t *testing.T, b *fakeBox) {
				b.fill(1, 1)
				connect := func() (*fakeSocket, core.Principal, <-chan struct{}, int) {
					f, bob, done := b.connect(t, 0, accepted{opened: mailbox.Opened{Last: 1}})
					opening(t, f)
					envelopes := 0
					for {
						frame := f.next().frame(t)
						envelopes += len(frame.GetEnvelopeBatch().GetEnvelopes())
						if frame.GetDrained() != nil {
							return f, bob, done, envelopes
						}
					}
				}
				f, bob, done, n := connect()
				if n != 1 {
					t.Fatalf("%d envelopes", n)
				}
				fail(b)
				f.in <- acknowledgement(bob.Device, 1)
				closedWith(t, f, closeGoingAway)
				<-done
				b.meet(nil)
				b.lose("")
				want := 1
				if b.acked[1] {
					want = 0
				}
				if (want == 1) != (name == "refused") {
					t.Error("the fake box took what it refused, or the other way round")
				}
				f, _, done, n = connect()
				if n != want {
					t.Errorf("%d envelopes on the next socket, want %d", n, want)
				}
				close(f.in)
				<-done
			})
		})
	}
}

// An Open that fails is the answer to the upgrade. When it was taken, the database says that there
// is a newer socket: the poll closes the one that is live, and its client connects again.
func TestAnOpenThatFailsLeavesTheLiveSocket(t *testing.T) {
	t.Parallel()
	inFakeTime(t, func(t *testing.T, b *fakeBox) {
		live, bob, done := b.connect(t, 0, accepted{})
		drained(t, live)
		app := fiber.New()
		c := app.AcquireCtx(&fasthttp.RequestCtx{})
		defer app.ReleaseCtx(c)
		poll := func() {
			t.Helper()
			if err := b.Poll(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		b.meet(func(ctx context.Context, what string) error {
			if what == "open" {
				return unavailable(ctx, what)
			}
			return nil
		})
		if err := b.Upgrade(c, bob); core.KindOf(err) != core.Unavailable {
			t.Errorf("the answer: %v", err)
		}
		poll()
		b.fill(1, 1)
		poll()
		if n := len(live.next().frame(t).GetEnvelopeBatch().GetEnvelopes()); n != 1 {
			t.Errorf("the live socket got %d envelopes", n)
		}
		b.meet(nil)
		b.lose("open")
		if err := b.Upgrade(c, bob); !errors.Is(err, errLost) {
			t.Errorf("the answer: %v", err)
		}
		poll()
		closedWith(t, live, closeDisplaced)
		<-done
		if b.opened != 1 || b.closed != 1 {
			t.Errorf("%d sockets opened, %d closed", b.opened, b.closed)
		}
	})
}
