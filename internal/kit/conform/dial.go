package conform

import (
	"context"
	"net/http"
	"time"

	"github.com/coder/websocket"

	"github.com/obscura-relay/obscura/gen/client"
)

// maxFrame bounds a frame from the relay: one message of 256 KiB and its envelope fit well.
const maxFrame = 4 << 20

// ticket gets a ticket for a device.
func (t *try) ticket(d *device) string {
	a := t.call("POST", "/v1/gateway/ticket", d.token, nil).want(http.StatusCreated, "(ticket)")
	return into[client.GatewayTicket](a).Ticket
}

// connect opens the gateway with a ticket.
func (t *try) connect(d *device) *socket {
	s, status := t.dial("?ticket="+t.ticket(d), "")
	t.must(s != nil, "GET /v1/gateway with a fresh ticket: %d, want 101", status)
	return s
}

// dial tries to open the gateway, with a ticket in the query or a bearer token. Without success it
// returns the status.
func (t *try) dial(query, token string) (*socket, int) {
	header := http.Header{}
	if token != "" {
		header.Set("Authorization", "Bearer "+token)
	}
	for deadline := time.Now().Add(putOff); ; {
		ctx, cancel := context.WithTimeout(t.ctx, patience)
		conn, response, err := websocket.Dial(ctx, t.base+"/v1/gateway"+query, //nolint:bodyclose // the library closes it
			&websocket.DialOptions{HTTPHeader: header, HTTPClient: t.http})
		cancel()
		if err == nil {
			return t.listen(conn), http.StatusSwitchingProtocols
		}
		t.must(response != nil, "GET /v1/gateway: no answer: %v", bare(err))
		a := answer{status: response.StatusCode, header: response.Header}
		pause, later := a.putOff()
		if !later {
			return nil, a.status
		}
		t.must(time.Now().Add(pause).Before(deadline),
			"GET /v1/gateway is still answered %d, after %v of waiting as told", a.status, putOff)
		t.wait(pause)
	}
}

func (t *try) listen(conn *websocket.Conn) *socket {
	conn.SetReadLimit(maxFrame)
	ctx, cancel := context.WithCancel(t.ctx)
	s := &socket{t: t, conn: conn, cancel: cancel, done: make(chan struct{}), more: make(chan struct{}, 1)}
	t.mu.Lock()
	t.sockets = append(t.sockets, s)
	t.mu.Unlock()
	go s.read(ctx)
	return s
}
