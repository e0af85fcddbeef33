package faults_test

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/protobuf/proto"

	"github.com/obscura-relay/obscura/gen/obscurapb"
	"github.com/obscura-relay/obscura/internal/kit/wait"
)

// manner is how a recipient acknowledges.
type manner int

const (
	prompt  manner = iota // every frame at once
	lazy                  // now and then, all that is outstanding
	skipper               // all but every seventh envelope
	never
)

// recipient stays connected, to any node, until its context ends.
type recipient struct {
	*device
	*book
	world  *world
	ledger *ledger
	manner manner
	// diligent makes the lazy acknowledge at once: the test wants to see the end.
	diligent atomic.Bool
	// mayDisplace says that the test opens a connection while there is another.
	mayDisplace atomic.Bool

	// reading is held by whoever does not want it to read.
	reading           sync.RWMutex
	connected, opened atomic.Int64

	mu       sync.Mutex
	leave    context.CancelFunc // guarded by mu: closes the connection
	vanish   chan struct{}      // guarded by mu: closed to leave it behind, open and silent
	sessions sync.WaitGroup
}

func (r *recipient) run(ctx context.Context) {
	defer r.sessions.Wait()
	for ctx.Err() == nil {
		conn, there := r.dial(ctx)
		if !there {
			return
		}
		if conn != nil {
			r.stay(ctx, conn)
		}
		pause(ctx, rand.N(50*time.Millisecond))
	}
}

// stay is one connection, until it ends or is left behind.
func (r *recipient) stay(ctx context.Context, conn *websocket.Conn) {
	life, leave := context.WithCancel(ctx)
	vanish, ended := make(chan struct{}), make(chan struct{})
	r.mu.Lock()
	r.leave, r.vanish = leave, vanish
	r.mu.Unlock()
	r.opened.Add(1)
	r.connected.Add(1)
	r.sessions.Go(func() {
		defer leave()
		defer close(ended)
		err := r.read(life, conn, vanish)
		select {
		case <-vanish: // nobody reads it any more, and nobody closes it
			<-ctx.Done()
		default:
			r.closed(life, err)
		}
		_ = conn.CloseNow()
	})
	select {
	case <-ended:
	case <-vanish:
	}
	r.connected.Add(-1)
}

// reconnect closes the connection; the next one follows.
func (r *recipient) reconnect() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.leave != nil {
		r.leave()
	}
}

// refresh closes the connection and waits for the next one, which is opened after this call.
func (r *recipient) refresh(t testing.TB) {
	t.Helper()
	wait.Eventually(t, "a device is connected", func() bool { return r.connected.Load() == 1 })
	before := r.opened.Load()
	r.reconnect()
	wait.Eventually(t, "a device reconnects", func() bool { return r.opened.Load() > before })
}

// abandon leaves the connection behind as a device does that loses its network: no reading, no
// closing.
func (r *recipient) abandon() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.vanish != nil {
		close(r.vanish)
		r.vanish = nil
	}
}

// dial opens the gateway: with a ticket of any node, or with the token. It reports false when the
// device is gone.
func (r *recipient) dial(ctx context.Context) (conn *websocket.Conn, there bool) {
	base := r.world.anyEntrance()
	if base == "" {
		return nil, true
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	query, header := "", http.Header{}
	if rand.N(2) == 0 {
		got := r.call(ctx, http.MethodPost, r.world.anyEntrance()+"/v1/gateway/ticket", "", nil, nil)
		if got.status != http.StatusCreated {
			return nil, r.knock(ctx, base, got.status, got.header)
		}
		var ticket struct{ Ticket string }
		if err := json.Unmarshal(got.body, &ticket); err != nil {
			r.ledger.complain("a ticket: %v", err)
		}
		query = "?ticket=" + ticket.Ticket
	} else {
		header.Set("Authorization", "Bearer "+*r.token.Load())
	}
	conn, response, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(base, "http")+"/v1/gateway"+query, //nolint:bodyclose // the library closes it
		&websocket.DialOptions{HTTPHeader: header, HTTPClient: r.http})
	if err != nil {
		if response == nil {
			if ctx.Err() == nil {
				r.ledger.count(&r.ledger.noSocket)
			}
			return nil, true
		}
		return nil, r.knock(ctx, base, response.StatusCode, response.Header)
	}
	conn.SetReadLimit(4 << 20)
	return conn, true
}

// knock deals with a refusal before the socket opens.
func (r *recipient) knock(ctx context.Context, base string, status int, header http.Header) (there bool) {
	if status == 0 || status == http.StatusServiceUnavailable {
		r.ledger.count(&r.ledger.noSocket)
	}
	switch {
	case status == http.StatusUnauthorized:
		return r.login(ctx, base) || r.deleted.Load() == nil
	case status == http.StatusServiceUnavailable && header.Get("Retry-After") == "":
		r.ledger.complain("the gateway answered 503 without Retry-After")
	case status != 0 && status != http.StatusServiceUnavailable:
		r.ledger.complain("the gateway answered %d", status)
	}
	return true
}

// read reads frames until the connection ends or is left behind.
func (r *recipient) read(ctx context.Context, conn *websocket.Conn, vanish <-chan struct{}) error {
	page := &page{book: r.book}
	var outstanding []*obscurapb.Envelope
	for {
		r.reading.RLock()
		r.reading.RUnlock() //nolint:staticcheck // it waits for whoever holds the other side
		kind, data, err := conn.Read(ctx)
		if err != nil {
			return err
		}
		select {
		case <-vanish:
			return nil
		default:
		}
		var frame obscurapb.WebSocketFrame
		if err := proto.Unmarshal(data, &frame); err != nil || kind != websocket.MessageBinary {
			r.ledger.complain("a frame cannot be read: %v", err)
			continue
		}
		switch payload := frame.GetPayload().(type) {
		case *obscurapb.WebSocketFrame_EnvelopeBatch:
			for _, e := range payload.EnvelopeBatch.GetEnvelopes() {
				page.envelope(e)
				outstanding = append(outstanding, e)
			}
		case *obscurapb.WebSocketFrame_Gap:
			page.gap(payload.Gap)
		case *obscurapb.WebSocketFrame_Drained:
			page.drain(payload.Drained)
		}
		if outstanding, err = r.acknowledge(ctx, conn, outstanding); err != nil {
			return err
		}
	}
}

// acknowledge acknowledges in the recipient's manner and returns what it leaves for later.
func (r *recipient) acknowledge(ctx context.Context, conn *websocket.Conn,
	envelopes []*obscurapb.Envelope) ([]*obscurapb.Envelope, error) {
	if len(envelopes) == 0 || r.manner == never {
		return nil, nil
	}
	if r.manner == lazy && !r.diligent.Load() && rand.N(8) != 0 {
		return envelopes, nil
	}
	ack := &obscurapb.AckMessage{}
	var sequences []uint64
	for _, e := range envelopes {
		if r.manner == skipper && e.GetSequence()%7 == 3 {
			continue
		}
		ack.MessageIds = append(ack.MessageIds, e.GetId())
		sequences = append(sequences, e.GetSequence())
	}
	data, err := proto.Marshal(&obscurapb.WebSocketFrame{Payload: &obscurapb.WebSocketFrame_Ack{Ack: ack}})
	if err != nil {
		return nil, err
	}
	r.acknowledged(sequences)
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return nil, conn.Write(ctx, websocket.MessageBinary, data)
}

// closed checks how a connection ended.
func (r *recipient) closed(ctx context.Context, err error) {
	code := int(websocket.CloseStatus(err))
	r.ledger.closedWith(code)
	switch {
	case ctx.Err() != nil, code == -1, code == int(websocket.StatusGoingAway),
		code == int(websocket.StatusServiceRestart), code == 4401:
	case code == 4409 && r.mayDisplace.Load():
	default:
		r.ledger.complain("a connection was closed with %d", code)
	}
}
