package obscura_test

import (
	"context"
	"errors"
	"iter"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/google/uuid"

	obscura "github.com/obscura-relay/obscura/clients/go"
	"github.com/obscura-relay/obscura/gen/obscurapb"
)

// listen receives event by event.
func listen(t *testing.T, ctx context.Context, g *obscura.Gateway) func() (obscura.Event, error) { //nolint:revive // t comes first
	t.Helper()
	next, stop := iter.Pull2(g.Events(ctx))
	t.Cleanup(stop)
	return func() (obscura.Event, error) {
		event, err, ok := next()
		if !ok {
			return nil, errors.New("the events are over")
		}
		return event, err
	}
}

// sequence is that of an envelope, 0 for anything else.
func sequence(event obscura.Event) uint64 {
	if e, ok := event.(*obscura.Envelope); ok {
		return e.Sequence
	}
	return 0
}

func TestAcknowledgementsShareFrames(t *testing.T) {
	t.Parallel()
	inFakeTime(t, obscura.Options{}, func(t *testing.T, f *fake, s *obscura.Session) {
		var frames []int
		f.gateway(func(c *fakeSocket) {
			for first := uint64(1); first <= 1201; first += 100 {
				if err := c.send(mail(first, first+99)); err != nil {
					t.Error(err)
				}
			}
			for {
				ids, err := c.acks()
				if err != nil {
					return
				}
				frames = append(frames, len(ids))
			}
		})
		g := s.Gateway()
		for event, err := range g.Events(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			g.Acknowledge(event.(*obscura.Envelope))
			if sequence(event) == 1300 {
				break
			}
		}
		synctest.Wait()
		if !slices.Equal(frames, []int{1000, 300}) {
			t.Errorf("frames of %v acknowledgements, want 1000 and 300", frames)
		}
	})
}

func TestWhatWasAcknowledgedIsNotHandedOutAgain(t *testing.T) {
	t.Parallel()
	inFakeTime(t, obscura.Options{}, func(t *testing.T, f *fake, s *obscura.Session) {
		f.gateway(func(c *fakeSocket) {
			_ = c.send(mail(1, 3))
			ids, err := c.acks()
			if c.number == 1 || err != nil { // the first breaks, and forgets what it heard
				return
			}
			if len(ids) == 2 {
				_ = c.send(mail(4, 4))
			}
			_, _ = c.acks()
		})
		g := s.Gateway()
		next := listen(t, t.Context(), g)
		for range 3 {
			event, err := next()
			if err != nil {
				t.Fatal(err)
			}
			if sequence(event) != 2 {
				g.Acknowledge(event.(*obscura.Envelope))
			}
		}
		event, err := next()
		gone, ok := event.(*obscura.Disconnected)
		if !ok || gone.Err == nil || gone.After > time.Second {
			t.Fatalf("%v, %v; want Disconnected for up to a second", event, err)
		}
		if event, err = next(); sequence(event) != 2 {
			t.Fatalf("%v, %v; want envelope 2, which nobody acknowledged", event, err)
		}
		if event, err = next(); sequence(event) != 4 {
			t.Errorf("%v, %v; want envelope 4, which comes when 1 and 3 have been acknowledged again", event, err)
		}
	})
}

func TestWhatASocketDidNotAcknowledgeTheNextOneDoes(t *testing.T) {
	t.Parallel()
	for name, early := range map[string]bool{"just before it breaks": true, "after it broke": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inFakeTime(t, obscura.Options{}, func(t *testing.T, f *fake, s *obscura.Session) {
				f.gateway(func(c *fakeSocket) {
					if c.number == 1 { // it breaks before it hears anything
						_ = c.send(mail(1, 1))
						time.Sleep(5 * time.Millisecond) // fake time
						return
					}
					if ids, err := c.acks(); err == nil && len(ids) == 1 {
						_ = c.send(mail(2, 2))
					}
					_, _ = c.acks()
				})
				g := s.Gateway()
				next := listen(t, t.Context(), g)
				first, err := next()
				if err != nil {
					t.Fatal(err)
				}
				if early {
					g.Acknowledge(first.(*obscura.Envelope))
				}
				if event, err := next(); err != nil || sequence(event) != 0 {
					t.Fatalf("%v, %v; want Disconnected", event, err)
				}
				if !early {
					g.Acknowledge(first.(*obscura.Envelope))
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				stop := context.AfterFunc(ctx, func() { t.Error("the next socket acknowledges nothing") })
				defer stop()
				if event, err := next(); sequence(event) != 2 {
					t.Errorf("%v, %v; want envelope 2, which follows the acknowledgement", event, err)
				}
			})
		})
	}
}

func TestTheEndOfAContextClosesTheGateway(t *testing.T) {
	t.Parallel()
	for name, opens := range map[string]bool{"while it opens": false, "when it is open": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inFakeTime(t, obscura.Options{}, func(t *testing.T, f *fake, s *obscura.Session) {
				ended := make(chan error, 1)
				acknowledged := 0
				f.HandleFunc("GET /v1/gateway", func(w http.ResponseWriter, r *http.Request) {
					if !opens {
						<-r.Context().Done()
						return
					}
					conn, err := websocket.Accept(w, r, nil)
					if err != nil {
						return
					}
					c := &fakeSocket{Conn: conn}
					_ = c.send(mail(1, 2))
					for err == nil {
						var ids [][]byte
						ids, err = c.acks()
						acknowledged += len(ids)
					}
					ended <- err
				})
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				envelopes := 0
				for event, err := range s.Gateway().Events(ctx) {
					switch e := event.(type) {
					case *obscura.Envelope:
						if envelopes++; envelopes == 2 {
							<-ctx.Done()
						}
						s.Gateway().Acknowledge(e)
					case nil:
						if !errors.Is(err, context.DeadlineExceeded) {
							t.Errorf("the end: %v", err)
						}
					default:
						t.Errorf("%+v", e)
					}
				}
				if !opens {
					return
				}
				if err := <-ended; websocket.CloseStatus(err) != websocket.StatusNormalClosure || acknowledged != 2 {
					t.Errorf("the relay saw %v, after %d acknowledgements", err, acknowledged)
				}
			})
		})
	}
}

func TestHowAGatewayEnds(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		code  websocket.StatusCode
		ended bool // the refresh token is refused
		want  error
	}{
		"displaced": {4409, false, obscura.ErrDisplaced},
		"revoked":   {4401, true, obscura.ErrRevoked},
		"policy":    {1008, false, &obscura.Error{Status: 1008, Message: "because"}},
		"too big":   {1009, false, &obscura.Error{Status: 1009, Message: "because"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inFakeTime(t, obscura.Options{}, func(t *testing.T, f *fake, s *obscura.Session) {
				f.gateway(func(socket *fakeSocket) { _ = socket.Close(c.code, "because") })
				f.refreshing(func(_ int64, w http.ResponseWriter, _ *http.Request) {
					refuse(w, 401, "invalid_refresh_token", "")
				})
				_, err := listen(t, t.Context(), s.Gateway())()
				var e *obscura.Error
				if !errors.As(err, &e) || e.Message == "" || !errors.Is(err, c.want) && e.Error() != c.want.Error() {
					t.Errorf("%v, want %v", err, c.want)
				}
				if c.ended != errors.Is(err, obscura.ErrSessionEnded) {
					t.Errorf("%v: has the session ended?", err)
				}
			})
		})
	}
}

func TestWhatComesAfterAClosedSocket(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		code              websocket.StatusCode
		shortest, longest time.Duration
		refreshes         int64
	}{
		"the relay stops":          {1001, time.Second, 5 * time.Second, 0},
		"the relay restarts":       {1012, 0, time.Second, 0},
		"an unknown code":          {4999, 0, time.Second, 0},
		"a takeover of one's own":  {4401, 0, time.Second, 1},
		"no close frame":           {0, 0, time.Second, 0},
		"nothing, not even a ping": {-1, 0, time.Second, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inFakeTime(t, obscura.Options{}, func(t *testing.T, f *fake, s *obscura.Session) {
				f.gateway(func(socket *fakeSocket) {
					switch {
					case socket.number > 1:
						_ = socket.send(mail(1, 1))
						_, _ = socket.acks()
					case c.code > 0:
						_ = socket.Close(c.code, "because")
					case c.code == -1:
						_, _ = socket.acks() // reads, and says nothing
					}
				})
				f.refreshing(func(_ int64, w http.ResponseWriter, _ *http.Request) { f.answerPair(w) })
				next := listen(t, t.Context(), s.Gateway())
				start := time.Now()
				event, err := next()
				gone, ok := event.(*obscura.Disconnected)
				if !ok || gone.After < c.shortest || gone.After > c.longest {
					t.Fatalf("%+v, %v", event, err)
				}
				if silent := time.Since(start); c.code == -1 && silent != time.Minute {
					t.Errorf("noticed after %s, want a minute", silent)
				}
				if event, err = next(); sequence(event) != 1 || f.refreshes.Load() != c.refreshes {
					t.Errorf("%v, %v, after %d refreshes", event, err, f.refreshes.Load())
				}
			})
		})
	}
}

func TestPingsKeepASocketOpen(t *testing.T) {
	t.Parallel()
	inFakeTime(t, obscura.Options{}, func(t *testing.T, f *fake, s *obscura.Session) {
		f.gateway(func(c *fakeSocket) {
			ctx := c.CloseRead(context.Background())
			for range 20 { // ten minutes
				time.Sleep(30 * time.Second) // fake time
				if err := c.Ping(ctx); err != nil {
					t.Error(err)
				}
			}
			_ = c.send(mail(1, 1))
			<-ctx.Done()
		})
		if event, err := listen(t, t.Context(), s.Gateway())(); sequence(event) != 1 {
			t.Errorf("%v, %v", event, err)
		}
	})
}

func TestTheWaitsBetweenSocketsGrow(t *testing.T) {
	t.Parallel()
	inFakeTime(t, obscura.Options{}, func(t *testing.T, f *fake, s *obscura.Session) {
		var tries atomic.Int64
		f.HandleFunc("GET /v1/gateway", func(w http.ResponseWriter, _ *http.Request) {
			switch tries.Add(1) {
			case 9:
				refuse(w, 503, "unavailable", "90")
			case 10:
				refuse(w, 403, "device_required", "")
			default:
				refuse(w, 500, "internal", "")
			}
		})
		next := listen(t, t.Context(), s.Gateway())
		start := time.Now()
		for i, longest := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60, 180} {
			event, err := next()
			gone, ok := event.(*obscura.Disconnected)
			if !ok || gone.After > longest*time.Second || i == 8 && gone.After < 90*time.Second {
				t.Errorf("%d: %+v, %v", i, event, err)
			}
		}
		if waited := time.Since(start); waited < 9*time.Second { // less happens once in a million times
			t.Errorf("eight waits took %s", waited)
		}
		_, err := next()
		var e *obscura.Error
		if !errors.As(err, &e) || e.Code != "device_required" {
			t.Errorf("the end: %v", err)
		}
	})
}

func TestTheWaitsBeginAnewAfterAMinuteOfPeace(t *testing.T) {
	t.Parallel()
	inFakeTime(t, obscura.Options{}, func(t *testing.T, f *fake, s *obscura.Session) {
		f.gateway(func(c *fakeSocket) {
			ctx := c.CloseRead(context.Background())
			time.Sleep(30 * time.Second) // fake time
			_ = c.Ping(ctx)
			time.Sleep(31 * time.Second) // fake time
		})
		next := listen(t, t.Context(), s.Gateway())
		for range 8 {
			event, err := next()
			if gone, ok := event.(*obscura.Disconnected); !ok || gone.After > time.Second {
				t.Errorf("%+v, %v", event, err)
			}
		}
	})
}

func TestATicketOpensTheGatewayAndStaysOutOfErrors(t *testing.T) {
	t.Parallel()
	inFakeTime(t, obscura.Options{UseTicket: true}, func(t *testing.T, f *fake, s *obscura.Session) {
		f.HandleFunc("POST /v1/gateway/ticket", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(201)
			_, _ = w.Write([]byte(`{"ticket":"top/secret"}`))
		})
		var tries atomic.Int64
		f.HandleFunc("GET /v1/gateway", func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "" || r.URL.Query().Get("ticket") != "top/secret" {
				t.Error("the upgrade has no ticket, or a token beside it")
			}
			if tries.Add(1) == 1 {
				hangUp(w)
			}
			conn, err := websocket.Accept(w, r, nil)
			if err != nil {
				t.Error(err)
				return
			}
			_ = conn.CloseNow()
		})
		next := listen(t, t.Context(), s.Gateway())
		for range 2 {
			event, err := next()
			gone, ok := event.(*obscura.Disconnected)
			if !ok || strings.Contains(gone.Err.Error(), "secret") {
				t.Errorf("%+v, %v", event, err)
			}
		}
	})
}

func TestASecondLoopIsRefused(t *testing.T) {
	t.Parallel()
	inFakeTime(t, obscura.Options{}, func(t *testing.T, f *fake, s *obscura.Session) {
		f.gateway(func(c *fakeSocket) {
			_ = c.send(mail(1, 1))
			_, _ = c.acks()
		})
		for event, err := range s.Gateway().Events(t.Context()) {
			if sequence(event) != 1 || err != nil {
				t.Errorf("%v, %v", event, err)
			}
			for event, err := range s.Gateway().Events(t.Context()) {
				if event != nil || err == nil {
					t.Errorf("a second loop got %v, %v", event, err)
				}
			}
			break
		}
		for event, err := range s.Gateway().Events(t.Context()) { // after the first there may be another
			if sequence(event) != 1 || err != nil {
				t.Errorf("%v, %v", event, err)
			}
			break
		}
	})
}

func TestWhatThisPackageDoesNotKnowIsPassedOver(t *testing.T) {
	t.Parallel()
	inFakeTime(t, obscura.Options{}, func(t *testing.T, f *fake, s *obscura.Session) {
		f.gateway(func(c *fakeSocket) {
			_ = c.send(&obscurapb.WebSocketFrame{})
			_ = c.Write(context.Background(), websocket.MessageBinary, []byte{0xfa, 0x01, 0x00}) // field 31, empty
			_ = c.send(mail(7, 7))
			_ = c.Write(context.Background(), websocket.MessageBinary, []byte{0xff})
		})
		next := listen(t, t.Context(), s.Gateway())
		if event, err := next(); sequence(event) != 7 {
			t.Fatalf("%v, %v", event, err)
		}
		if event, err := next(); err == nil {
			t.Errorf("%v; want the error of a frame that is not one", event)
		}
	})
}

func TestEnvelopeNeedNotSayWhoWroteIt(t *testing.T) {
	t.Parallel()
	inFakeTime(t, obscura.Options{}, func(t *testing.T, f *fake, s *obscura.Session) {
		f.gateway(func(c *fakeSocket) {
			sealed := mail(1, 2)
			for _, e := range sealed.GetEnvelopeBatch().GetEnvelopes() {
				e.SenderId, e.SenderDeviceId = nil, nil
			}
			sealed.GetEnvelopeBatch().GetEnvelopes()[1].SenderId = []byte("short")
			for _, e := range sealed.GetEnvelopeBatch().GetEnvelopes() {
				if err := c.send(&obscurapb.WebSocketFrame{Payload: &obscurapb.WebSocketFrame_EnvelopeBatch{
					EnvelopeBatch: &obscurapb.EnvelopeBatch{Envelopes: []*obscurapb.Envelope{e}}}}); err != nil {
					return
				}
			}
			_, _ = c.acks()
		})
		next := listen(t, t.Context(), s.Gateway())
		if e := nextEnvelope(t, next); e.Sequence != 1 || e.SenderID != uuid.Nil || e.SenderDeviceID != uuid.Nil {
			t.Errorf("%+v", e)
		}
		if event, err := next(); err == nil {
			t.Errorf("an id of five bytes: %+v", event)
		}
	})
}
