package conform

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/coder/websocket"

	"github.com/obscura-relay/obscura/gen/obscurapb"
)

// A fault is one broken promise, and the checks that must find it: these and no others.
type fault struct {
	name  string
	fails string // names of checks
	make  func(b *broken) spoil
}

// spoil is what a fault does. What is nil is left as it is.
type spoil struct {
	// http stands before the good relay. It sees every request, upgrades too.
	http func(a *ask, forward func(*ask) *reply) *reply
	// down replaces a frame from the relay, up a message from the client.
	down func(l *link, frame *obscurapb.WebSocketFrame) []*obscurapb.WebSocketFrame
	up   func(l *link, kind websocket.MessageType, data []byte) (pass bool)
	// closing replaces the code with which the relay closes a socket.
	closing func(l *link, code websocket.StatusCode) websocket.StatusCode
	// deaf: pings are not answered.
	deaf bool
}

// broken is a relay with a fault: a proxy before a good one.
type broken struct {
	good string // URL
	spoil
	http  *http.Client
	links sync.WaitGroup
	// ofTicket are the access tokens that tickets were made for.
	ofTicket *table[string]
	// leaving are closed when the good relay has heard that the client closed a device's last
	// socket. Without a proxy the client itself waits for that, and so may count on what it wrote
	// before.
	leaving *table[chan struct{}]
}

// ask is a request on its way in.
type ask struct {
	method, path, query, where string // where: method and path without ids
	id                         string // the id in the path
	header                     http.Header
	body                       []byte
	chunked                    bool // without a Content-Length
}

func (a *ask) token() string { return strings.TrimPrefix(a.header.Get("Authorization"), "Bearer ") }
func (a *ask) upgrade() bool { return a.header.Get("Upgrade") != "" }

// with is the same request with another body.
func (a *ask) with(body []byte) *ask {
	other := *a
	other.header, other.body = a.header.Clone(), body
	return &other
}

// reply is an answer on its way out; socket is set when it is an upgrade.
type reply struct {
	status int
	header http.Header
	body   []byte
	socket *websocket.Conn
}

func made(status int, body any) *reply {
	r := &reply{status: status,
		header: http.Header{"Content-Type": {jsonMedia}, "X-Request-Id": {"11111111-1111-4111-8111-111111111111"}}}
	if body != nil {
		r.body, _ = json.Marshal(body)
	}
	return r
}

func madeError(status int, code string) *reply {
	return made(status, map[string]string{"error": "It is broken.", "code": code})
}

// breakIt starts a relay with a fault before a good one and returns its URL.
func breakIt(t testing.TB, good string, f fault) string {
	t.Helper()
	b := newBroken(t, good, f)
	server := httptest.NewServer(b)
	t.Cleanup(server.Close)
	return server.URL
}

func newBroken(t testing.TB, good string, f fault) *broken {
	t.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}
	b := &broken{good: good, http: &http.Client{Transport: transport}, ofTicket: newTable[string](),
		leaving: newTable[chan struct{}]()}
	if f.make != nil {
		b.spoil = f.make(b)
	}
	t.Cleanup(func() {
		b.links.Wait()
		transport.CloseIdleConnections()
	})
	return b
}

// ServeHTTP implements http.Handler.
func (b *broken) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.links.Add(1)
	defer b.links.Done()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	a := &ask{method: r.Method, path: r.URL.Path, query: r.URL.RawQuery, id: ids.FindString(r.URL.Path),
		header: r.Header, body: body, chunked: r.ContentLength < 0,
		where: r.Method + " " + ids.ReplaceAllString(r.URL.Path, "{id}")}
	var out *reply
	if b.spoil.http != nil {
		out = b.spoil.http(a, func(a *ask) *reply { return b.forward(r, a) })
	} else {
		out = b.forward(r, a)
	}
	if out == nil {
		panic(http.ErrAbortHandler) // no answer
	}
	if a.where == "POST /v1/gateway/ticket" && out.status == http.StatusCreated {
		var ticket struct{ Ticket string }
		_ = json.Unmarshal(out.body, &ticket)
		b.ofTicket.put(ticket.Ticket, a.token())
	}
	if out.socket != nil {
		b.link(w, r, a, out.socket)
		return
	}
	for name, values := range out.header {
		if (name != "Content-Length" || a.method == http.MethodHead) && name != "Connection" {
			w.Header()[name] = values
		}
	}
	w.WriteHeader(out.status)
	_, _ = w.Write(out.body)
}

// forward asks the good relay. Nil means that the client has gone.
func (b *broken) forward(r *http.Request, a *ask) *reply {
	target := b.good + a.path
	if a.query != "" {
		target += "?" + a.query
	}
	if a.upgrade() {
		return b.dial(r, a, target)
	}
	out, err := http.NewRequestWithContext(context.WithoutCancel(r.Context()), a.method, target,
		bytes.NewReader(a.body))
	if err != nil {
		return nil
	}
	out.Header = a.header.Clone()
	if a.chunked {
		out.ContentLength = -1
	}
	in, err := b.http.Do(out)
	if err != nil {
		return nil
	}
	defer func() { _ = in.Body.Close() }()
	body, err := io.ReadAll(in.Body)
	if err != nil {
		return nil
	}
	return &reply{status: in.StatusCode, header: in.Header, body: body}
}

func (b *broken) dial(r *http.Request, a *ask, target string) *reply {
	if ended, ok := b.leaving.get(b.deviceOf(a)); ok {
		<-ended
	}
	header := http.Header{}
	if token := a.header.Get("Authorization"); token != "" {
		header.Set("Authorization", token)
	}
	conn, in, err := websocket.Dial(r.Context(), target, //nolint:bodyclose // the library closes it
		&websocket.DialOptions{HTTPHeader: header, HTTPClient: b.http})
	if err == nil {
		return &reply{status: http.StatusSwitchingProtocols, socket: conn}
	}
	if in == nil {
		return nil
	}
	body, _ := io.ReadAll(in.Body)
	return &reply{status: in.StatusCode, header: in.Header, body: body}
}
