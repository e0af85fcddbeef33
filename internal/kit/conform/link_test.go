package conform

import (
	"context"
	"net/http"
	"net/url"
	"sync"

	"github.com/coder/websocket"
	"google.golang.org/protobuf/proto"

	"github.com/obscura-relay/obscura/gen/obscurapb"
)

// A link is one socket through the broken relay.
type link struct {
	device           string // the device that it belongs to
	client, upstream *websocket.Conn
	ctx              context.Context

	mu    sync.Mutex
	notes map[string]any // guarded by mu: what a fault remembers of the link
}

// note keeps a value under a name and returns the one that was there.
func (l *link) note(name string, value any) (before any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before = l.notes[name]
	l.notes[name] = value
	return before
}

// has reports whether something was noted.
func (l *link) has(name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.notes[name] != nil
}

// salt is a number of the link's own.
func (l *link) salt(fresh func() byte) byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.notes["salt"] == nil {
		l.notes["salt"] = fresh()
	}
	return l.notes["salt"].(byte)
}

// ack acknowledges upstream, whoever's envelopes these are.
func (l *link) ack(ids ...[]byte) {
	_ = l.upstream.Write(l.ctx, websocket.MessageBinary, ackFrame(ids...))
}

// send writes a frame to the client.
func (l *link) send(frame *obscurapb.WebSocketFrame) {
	data, _ := proto.Marshal(frame)
	_ = l.client.Write(l.ctx, websocket.MessageBinary, data)
}

// link joins the client's socket with the good relay's until both have ended.
func (b *broken) link(w http.ResponseWriter, r *http.Request, a *ask, upstream *websocket.Conn) {
	options := &websocket.AcceptOptions{}
	if b.deaf {
		options.OnPingReceived = func(context.Context, []byte) bool { return false }
	}
	client, err := websocket.Accept(w, r, options)
	if err != nil {
		_ = upstream.CloseNow()
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	l := &link{device: b.deviceOf(a), client: client, upstream: upstream, ctx: ctx, notes: map[string]any{}}
	client.SetReadLimit(-1)
	upstream.SetReadLimit(-1)
	var up sync.WaitGroup
	up.Go(func() { b.pumpUp(l) })
	b.pumpDown(l)
	up.Wait()
}

// deviceOf returns the device that opens a socket.
func (b *broken) deviceOf(a *ask) string {
	token := a.token()
	if query, err := url.ParseQuery(a.query); err == nil && query.Has("ticket") {
		token, _ = b.ofTicket.get(query.Get("ticket"))
	}
	return readClaims(token).device()
}

// pumpUp carries what the client writes.
func (b *broken) pumpUp(l *link) {
	for {
		kind, data, err := l.client.Read(l.ctx)
		if err != nil {
			ended := make(chan struct{})
			b.leaving.put(l.device, ended)
			defer close(ended)
			if code := websocket.CloseStatus(err); code == websocket.StatusNormalClosure {
				_ = l.upstream.Close(code, "")
			}
			_ = l.upstream.CloseNow()
			return
		}
		if b.up != nil && !b.up(l, kind, data) {
			continue
		}
		_ = l.upstream.Write(l.ctx, kind, data)
	}
}

// pumpDown carries what the relay writes, and how it closes.
func (b *broken) pumpDown(l *link) {
	for {
		_, data, err := l.upstream.Read(l.ctx)
		if err != nil {
			code := websocket.CloseStatus(err)
			if b.closing != nil && code != -1 {
				code = b.closing(l, code)
			}
			if code > 0 {
				_ = l.client.Close(code, "")
			}
			_ = l.client.CloseNow()
			return
		}
		frame := &obscurapb.WebSocketFrame{}
		if proto.Unmarshal(data, frame) != nil {
			return
		}
		frames := []*obscurapb.WebSocketFrame{frame}
		if b.down != nil {
			frames = b.down(l, frame)
		}
		for _, f := range frames {
			l.send(f)
		}
	}
}
