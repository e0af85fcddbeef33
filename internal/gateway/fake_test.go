package gateway

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/obscura-relay/obscura/gen/obscurapb"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/core/keys"
	"github.com/obscura-relay/obscura/internal/core/mailbox"
	"github.com/obscura-relay/obscura/internal/storage"
)

// written is one message that a session wrote.
type written struct {
	kind int
	data []byte
	at   time.Time
}

func (w written) frame(t *testing.T) *obscurapb.WebSocketFrame {
	t.Helper()
	var frame obscurapb.WebSocketFrame
	if err := proto.Unmarshal(w.data, &frame); err != nil || w.kind != binaryMessage {
		t.Fatalf("not a frame: kind %d, %v", w.kind, err)
	}
	return &frame
}

// fakeSocket is a WebSocket with deadlines and without a network. It fails the test when two
// goroutines write at once, and when anybody touches it after its handler returned.
type fakeSocket struct {
	t       *testing.T
	in, out chan written
	pong    func(string) error
	ping    func(string) error
	metered func(bytes int)

	mu            sync.Mutex
	read, write   time.Time     // guarded by mu: deadlines
	changed       chan struct{} // guarded by mu: closed when a deadline changes
	writing, over bool          // guarded by mu
	broken        bool          // guarded by mu: interrupted
	left          bool          // guarded by mu: the client has, so that writes fail
}

// newFake makes a socket whose reader takes room messages and then stops reading.
func newFake(t *testing.T, room int) *fakeSocket {
	return &fakeSocket{t: t, in: make(chan written), out: make(chan written, room), changed: make(chan struct{})}
}

var errTimeout = os.ErrDeadlineExceeded

// wait waits for an event, a deadline or an interruption.
func (f *fakeSocket) wait(deadline func() time.Time, event func() <-chan written, send chan<- written,
	value written) (written, error) {
	for {
		f.mu.Lock()
		if f.over {
			f.t.Error("the socket was used after its handler returned")
		}
		at, changed, broken := deadline(), f.changed, f.broken
		f.mu.Unlock()
		if broken {
			return written{}, errTimeout
		}
		var expired <-chan time.Time
		if !at.IsZero() {
			timer := time.NewTimer(time.Until(at))
			defer timer.Stop()
			expired = timer.C
		}
		select {
		case w, open := <-event():
			if !open {
				return w, errors.New("closed by the client")
			}
			return w, nil
		case send <- value:
			return written{}, nil
		case <-expired:
			return written{}, errTimeout
		case <-changed:
		}
	}
}

func (f *fakeSocket) ReadMessage() (int, []byte, error) {
	for {
		w, err := f.wait(func() time.Time { return f.read }, func() <-chan written { return f.in }, nil, written{})
		f.metered(len(w.data))
		switch {
		case err == nil && w.kind == pingMessage:
			err = f.ping(string(w.data))
		case err == nil && w.kind == pongMessage:
			err = f.pong(string(w.data))
		default:
			return w.kind, w.data, err
		}
		if err != nil {
			return 0, nil, err
		}
	}
}

func (f *fakeSocket) WriteMessage(kind int, data []byte) error {
	f.mu.Lock()
	if f.writing {
		f.t.Error("two goroutines write at once")
	}
	if f.write.IsZero() || time.Until(f.write) > writeWithin {
		f.t.Error("a write without a deadline")
	}
	f.writing = true
	left := f.left
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		f.writing = false
		f.mu.Unlock()
	}()
	if left {
		return syscall.EPIPE
	}
	_, err := f.wait(func() time.Time { return f.write }, func() <-chan written { return nil }, f.out,
		written{kind, append([]byte(nil), data...), time.Now()})
	return err
}

func (f *fakeSocket) WriteControl(kind int, data []byte, deadline time.Time) error {
	_, err := f.wait(func() time.Time { return deadline }, func() <-chan written { return nil }, f.out,
		written{kind, append([]byte(nil), data...), time.Now()})
	return err
}

func (f *fakeSocket) set(what *time.Time, at time.Time) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.over {
		f.t.Error("the socket was used after its handler returned")
	}
	*what = at
	close(f.changed)
	f.changed = make(chan struct{})
	return nil
}

func (f *fakeSocket) SetReadDeadline(at time.Time) error  { return f.set(&f.read, at) }
func (f *fakeSocket) SetWriteDeadline(at time.Time) error { return f.set(&f.write, at) }
func (f *fakeSocket) SetPongHandler(h func(string) error) { f.pong = h }
func (f *fakeSocket) SetPingHandler(h func(string) error) { f.ping = h }

func (f *fakeSocket) meter(m func(int)) { f.metered = m }

func (f *fakeSocket) SetReadLimit(n int64) {
	if n != 64<<10 {
		f.t.Errorf("read limit %d", n)
	}
}

func (f *fakeSocket) writeBy(at time.Time) { _ = f.set(&f.write, at) }

func (f *fakeSocket) interrupt() {
	f.mu.Lock()
	f.broken = true
	f.mu.Unlock()
	_ = f.set(&f.read, time.Unix(1, 0))
}

// next returns what the session writes next.
func (f *fakeSocket) next() written {
	f.t.Helper()
	select {
	case w := <-f.out:
		return w
	case <-time.After(time.Minute): // of fake time in most tests: longer than between two pings
		f.t.Fatal("nothing was written")
		return written{}
	}
}

// counters counts nothing.
type counters struct{}

func (counters) SocketOpened()               {}
func (counters) SocketClosed()               {}
func (counters) Delivered(int)               {}
func (counters) Accepted(int)                {}
func (counters) Acknowledged(int)            {}
func (counters) Dropped(core.GapReason, int) {}

// lonely is the rest of a node on which every notice is lost.
type lonely struct{}

func (lonely) Offer(core.DeviceID, []core.Envelope) bool { return false }
func (lonely) Announce(core.Notice)                      {}
func (lonely) Left(core.DeviceID)                        {}
func (lonely) Silence() time.Duration                    { return 0 }

func (lonely) Counts(_ context.Context, devices ...core.DeviceID) (map[core.DeviceID]keys.Count, error) {
	counts := map[core.DeviceID]keys.Count{}
	for _, device := range devices {
		counts[device] = keys.Count{EC: 7, Kyber: 3}
	}
	return counts, nil
}

func (lonely) LiveSessions(_ context.Context, ids []core.SessionID) ([]core.SessionID, error) {
	return ids, nil
}

// newGateway makes a gateway on a database. Every notice is lost.
func newGateway(db *storage.DB) (*Gateway, *mailbox.Service) {
	box := mailbox.New(mailbox.Config{DB: db, Async: db, Counters: counters{}, Sockets: lonely{}})
	return New(Config{Mailbox: box, Keys: lonely{}, Sessions: lonely{}, Node: lonely{}, Counters: counters{},
		Logger: slog.New(slog.DiscardHandler), PollInterval: time.Second}), box
}

// start serves a session and returns a channel that is closed when its handler has returned.
func (f *fakeSocket) start(g *Gateway, h accepted) <-chan struct{} {
	if h.principal.Device == uuid.Nil {
		h.principal = core.Principal{User: uuid.New(), Device: uuid.New(), Session: uuid.New(), DeviceNumber: 1}
	}
	h.opened.Generation = max(h.opened.Generation, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		g.serve(f, h)
		f.mu.Lock()
		f.over = true
		f.mu.Unlock()
	}()
	return done
}
