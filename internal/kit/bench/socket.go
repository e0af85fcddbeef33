package bench

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/fasthttp/websocket"

	obscura "github.com/obscura-relay/obscura/clients/go"
	"github.com/obscura-relay/obscura/gen/client"
)

// dialer opens gateway sockets.
type dialer struct {
	api    *api
	ws     websocket.Dialer
	target string // ws://host/v1/gateway
	local  bool   // the relay is on the loopback interface
}

// portsPerAddress is how many sockets leave from one loopback address: fewer than it has ports.
const portsPerAddress = 20000

func newDialer(a *api) *dialer {
	u := url.URL{Scheme: "ws" + strings.TrimPrefix(a.base.Scheme, "http"), Host: a.base.Host, Path: "/v1/gateway"}
	ip := net.ParseIP(a.base.Hostname())
	return &dialer{api: a, target: u.String(), local: ip.To4() != nil && ip.IsLoopback(), ws: websocket.Dialer{
		HandshakeTimeout: httpTimeout, ReadBufferSize: 4096, WriteBufferSize: 1024, WriteBufferPool: &sync.Pool{},
	}}
}

// connect opens the gateway for a device. n is the number of the socket among all.
func (d *dialer) connect(ctx context.Context, dev *device, n int) (*websocket.Conn, error) {
	var got client.GatewayTicket
	err := insist(ctx, func() error { return d.api.call("POST", "/v1/gateway/ticket", dev.token(ctx), nil, &got) })
	if err != nil {
		return nil, err
	}
	ws := d.ws
	source := net.Dialer{}
	if d.local && n >= portsPerAddress { // one address has not enough ports
		source.LocalAddr = &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(n/portsPerAddress))}
	}
	ws.NetDialContext = source.DialContext
	conn, response, err := ws.DialContext(ctx, d.target+"?ticket="+url.QueryEscape(got.Ticket), http.Header{})
	if response != nil {
		_ = response.Body.Close()
		if err != nil {
			return nil, &obscura.Error{Status: response.StatusCode, Code: "on the upgrade"}
		}
	}
	return conn, err
}

// A receiver is one device at its gateway: it reads what comes, acknowledges it, and connects again
// when the socket ends. One goroutine does all of it.
type receiver struct {
	dialer *dialer
	device *device
	number int
	// take gets every frame; it may keep nothing of it.
	take func(*receiver, *frame)
	// fail gets every end of a socket but the last.
	fail func(error)
	// open is called once, when the first socket is open.
	open func()
	// silent receivers do not acknowledge.
	silent bool
	// acked is told how many envelopes were acknowledged.
	acked func(n int)

	buf, ack []byte
	frame    frame
	last     map[uint32]uint64 // per sender: the highest number that arrived
}

// reconnectAfter is the pause before a broken socket is replaced.
const reconnectAfter = 200 * time.Millisecond

// run serves until ctx ends.
func (r *receiver) run(ctx context.Context) {
	opened := sync.OnceFunc(r.open)
	for ctx.Err() == nil {
		err := r.session(ctx, opened)
		if ctx.Err() != nil {
			break
		}
		r.fail(err)
		if pause(ctx, reconnectAfter) != nil {
			break
		}
	}
}

func (r *receiver) session(ctx context.Context, opened func()) error {
	conn, err := r.dialer.connect(ctx, r.device, r.number)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	defer conn.Close()
	opened()
	for {
		kind, reader, err := conn.NextReader()
		if err != nil {
			return err
		}
		if r.buf, err = readAll(reader, r.buf[:0]); err != nil {
			return err
		}
		if kind != websocket.BinaryMessage {
			return errors.New("the relay sent a text frame")
		}
		if err := r.frame.read(r.buf); err != nil {
			return err
		}
		r.take(r, &r.frame)
		if n := len(r.frame.envelopes); n > 0 && !r.silent {
			r.ack = appendAck(r.ack[:0], r.frame.envelopes)
			if err := conn.SetWriteDeadline(time.Now().Add(httpTimeout)); err != nil {
				return err
			}
			if err := conn.WriteMessage(websocket.BinaryMessage, r.ack); err != nil {
				return err
			}
			r.acked(n)
		}
	}
}
