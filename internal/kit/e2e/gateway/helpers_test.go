package gateway_test

import (
	"context"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/obscura-relay/obscura/gen/obscurapb"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

// rawSocket is a gateway socket with its connection in our hands, for clients that behave badly.
type rawSocket struct {
	*relaytest.Socket
	tcp *net.TCPConn
}

// reset ends the connection with RST, as a phone that vanishes and comes back under another
// address.
func (s *rawSocket) reset() {
	_ = s.tcp.SetLinger(0)
	_ = s.tcp.Close()
	_ = s.CloseNow()
}

// dialRaw opens a gateway with a bearer token. Closing is the caller's work.
func dialRaw(ctx context.Context, t testing.TB, relay *relaytest.Relay, token string) (*rawSocket, error) {
	s := &rawSocket{}
	transport := &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, addr)
			if err == nil {
				s.tcp = conn.(*net.TCPConn)
				_ = s.tcp.SetReadBuffer(8 << 10) // what a stuck reader does not take waits in the relay
			}
			return conn, err
		}}
	ctx, cancel := context.WithTimeout(ctx, relaytest.Patience)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(relay.API, "http")+"/v1/gateway", //nolint:bodyclose // the library closes it
		&websocket.DialOptions{HTTPHeader: bearer(token),
			HTTPClient: &http.Client{Transport: relaytest.Validated(t, transport)}})
	if err != nil {
		return nil, err
	}
	conn.SetReadLimit(4 << 20)
	s.Socket = &relaytest.Socket{Conn: conn}
	return s, nil
}

// dialRawOrFail closes the socket at the end of the test.
func dialRawOrFail(t testing.TB, relay *relaytest.Relay, token string) *rawSocket {
	t.Helper()
	s, err := dialRaw(t.Context(), t, relay, token)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.reset)
	return s
}

// fillMailbox sends large messages until n bytes wait: of 127 and 256 KiB in turn, which is the
// most that one read of a mailbox brings.
func fillMailbox(t testing.TB, from, to *relaytest.Device, n int) {
	t.Helper()
	messages := []string{strings.Repeat("a", 127<<10), strings.Repeat("b", 256<<10)}
	for sent := 0; sent < n; {
		var batch []*obscurapb.Submission
		for len(batch) < 8 {
			message := messages[len(batch)%2]
			batch = append(batch, relaytest.To(to.ID, message))
			sent += len(message)
		}
		if failed := from.Send(t, nil, batch...); len(failed) != 0 {
			t.Fatalf("failed: %v", failed)
		}
	}
}
