package mailbox_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/obscura-relay/obscura/gen/obscurapb"
	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
	"github.com/obscura-relay/obscura/internal/kit/wait"
)

// fragile opens a gateway on a connection that can break: reset sends a TCP reset and nothing else.
func fragile(t *testing.T, relay *relaytest.Relay, device *relaytest.Device) (socket *relaytest.Socket, reset func()) {
	t.Helper()
	var line net.Conn
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network,
		addr string) (_ net.Conn, err error) {
		line, err = (&net.Dialer{}).DialContext(ctx, network, addr)
		return line, err
	}}}
	conn, _, err := websocket.Dial(t.Context(), "ws"+strings.TrimPrefix(relay.API, "http")+"/v1/gateway", //nolint:bodyclose // the library closes it
		&websocket.DialOptions{HTTPHeader: http.Header{"Authorization": {"Bearer " + device.Token}},
			HTTPClient: client})
	if err != nil {
		t.Fatal(err)
	}
	return relaytest.NewSocket(t, conn), func() {
		if err := line.(*net.TCPConn).SetLinger(0); err != nil {
			t.Fatal(err)
		}
		_ = line.Close()
		_ = conn.CloseNow()
	}
}

// An envelope that was passed over once comes on every later connection, however many of them break
// before or after it went into the socket: nothing later was acknowledged on them.
func TestTenBrokenConnectionsDropNothing(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	alice, bob := relay.Register(t).NewDevice(t), relay.Register(t).NewDevice(t)
	db := e2e.Database(t, relay)
	e2e.SendMany(t, alice, bob, "m", 3)
	socket, reset := fragile(t, relay, bob)
	all, _, _ := socket.Drain()
	socket.Ack(all[1])
	e2e.Pending(t, db, bob.ID, 2)
	reset()
	const connections = 22
	for i := range connections {
		socket, reset := fragile(t, relay, bob)
		if i%2 == 0 {
			if got := socket.Envelopes(2); e2e.Texts(got) != "m-0 m-2" {
				t.Fatalf("connection %d: %q", i, e2e.Texts(got))
			}
		}
		reset()
	}
	got, gaps, _ := bob.Connect(t).Drain()
	if e2e.Texts(got) != "m-0 m-2" || len(gaps) != 0 {
		t.Errorf("after %d broken connections: %q, gaps %v", connections, e2e.Texts(got), gaps)
	}
}

// An envelope that a client passes over on ten sockets is set aside with a gap; one that it passes
// over on nine, and one that it never had the chance to pass over, stay.
func TestAnEnvelopeIsSetAsideWhenTenSocketsPassedItOver(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	alice, bob := relay.Register(t).NewDevice(t), relay.Register(t).NewDevice(t)
	db := e2e.Database(t, relay)
	e2e.SendMany(t, alice, bob, "poison", 1)
	for n := 1; n <= 10; n++ {
		if n == 2 {
			e2e.SendMany(t, alice, bob, "late", 1) // behind envelope 2; passed over on nine sockets
		}
		e2e.SendMany(t, alice, bob, fmt.Sprint("fine-", n), 1)
		socket, reset := fragile(t, relay, bob)
		got, gaps, _ := socket.Drain()
		if len(gaps) != 0 || e2e.Texts(got[:1]) != "poison-0" {
			t.Fatalf("socket %d: %q, gaps %v", n, e2e.Texts(got), gaps)
		}
		socket.Ack(got[len(got)-1])
		e2e.Pending(t, db, bob.ID, min(n, 2))
		reset()
		wait.Eventually(t, "it is counted", func() bool {
			return n == 10 || e2e.Count(t, db, "SELECT skipped FROM messages WHERE seq = 1") == n
		})
	}
	e2e.Pending(t, db, bob.ID, 1)
	e2e.SendMany(t, alice, bob, "last", 1)
	got, gaps, last := bob.Connect(t).Drain()
	if e2e.Texts(got) != "late-0 last-0" || last != 13 || len(gaps) != 1 || gaps[0].GetFrom() != 1 ||
		gaps[0].GetTo() != 1 ||
		gaps[0].GetReason() != obscurapb.Gap_REASON_QUARANTINED {
		t.Errorf("%q up to %d, gaps %v", e2e.Texts(got), last, gaps)
	}
}
