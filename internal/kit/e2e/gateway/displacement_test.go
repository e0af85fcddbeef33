package gateway_test

import (
	"context"
	"maps"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

func TestANewerSocketDisplacesTheOlder(t *testing.T) {
	t.Parallel()
	one := relaytest.Start(t, e2e.SlowPoll)
	two := relaytest.StartOn(t, one.DatabaseURL, e2e.SlowPoll)
	alice, bob := one.Register(t).NewDevice(t), one.Register(t).NewDevice(t)
	db := e2e.Database(t, one)
	socket := bob.Connect(t)
	for _, node := range []*relaytest.Relay{one, two, two, one} {
		newer := bob.On(node).Connect(t)
		newer.Drain()
		if code := socket.CloseCode(); code != 4409 {
			t.Fatalf("the older was closed with %d", code)
		}
		alice.Send(t, nil, relaytest.To(bob.ID, "to the newer"))
		got := newer.Envelopes(1)
		newer.Ack(got...)
		socket = newer
		e2e.Pending(t, db, bob.ID, 0)
	}
}

func TestADisplacedSocketDoesNotDisturbAnotherDevice(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	user := relay.Register(t)
	phone, tablet := user.NewDevice(t), user.NewDevice(t)
	onTablet := tablet.Connect(t)
	onTablet.Drain()
	older := phone.Connect(t)
	phone.Connect(t)
	if code := older.CloseCode(); code != 4409 {
		t.Errorf("closed with %d", code)
	}
	phone.Send(t, nil, relaytest.To(tablet.ID, "still here"))
	if got := e2e.Texts(onTablet.Envelopes(1)); got != "still here" {
		t.Errorf("%q", got)
	}
}

// Sockets of one device that open at the same instant, on one node and on two: all but one end with
// 4409, and the one that stays gets the mail.
func TestOfSocketsAtTheSameInstantExactlyOneSurvives(t *testing.T) {
	t.Parallel()
	one := relaytest.Start(t)
	two := relaytest.StartOn(t, one.DatabaseURL)
	alice, bob := one.Register(t).NewDevice(t), one.Register(t).NewDevice(t)
	db := e2e.Database(t, one)
	for round := range 12 {
		const n = 4
		sockets := make([]*relaytest.Socket, n)
		e2e.Together(n, func(i int) {
			node := one
			if round%2 == 1 && i%2 == 1 {
				node = two
			}
			sockets[i], _ = node.Dial(t, "", bearer(bob.Token))
		})
		type end struct{ i, code int }
		ended, mail := make(chan end, n), make(chan int, n)
		for i, s := range sockets {
			if s == nil {
				t.Fatal("not connected")
			}
			go func() {
				for {
					frame, err := s.Frame()
					if err != nil {
						ended <- end{i, int(websocket.CloseStatus(err))}
						return
					}
					if e := frame.GetEnvelopeBatch().GetEnvelopes(); e != nil {
						s.Ack(e...)
						mail <- i
					}
				}
			}()
		}
		survivor := n * (n - 1) / 2
		for range n - 1 {
			select {
			case e := <-ended:
				survivor -= e.i
				if e.code != 4409 {
					t.Errorf("closed with %d", e.code)
				}
			case <-time.After(relaytest.Patience):
				t.Fatal("more than one survived")
			}
		}
		alice.Send(t, nil, relaytest.To(bob.ID, "who is there?"))
		if got := <-mail; got != survivor {
			t.Errorf("socket %d got the mail, %d survived", got, survivor)
		}
		e2e.Pending(t, db, bob.ID, 0)
		e2e.Disconnect(sockets[survivor])
		<-ended
	}
}

// A handshake that the relay does not grant neither displaces anybody nor uses its ticket up.
func TestAFailedUpgradeDisplacesNobody(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	alice := relay.Register(t).NewDevice(t)
	live := alice.Connect(t)
	live.Drain()
	mine := e2e.Ticket(t, alice)
	for what, header := range map[string][2]string{
		"without a key":        {"Sec-WebSocket-Key", ""},
		"with a blank key":     {"Sec-WebSocket-Key", " "},
		"with 15 bytes":        {"Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAA"},
		"with 17 bytes":        {"Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAAA="},
		"with a key of text":   {"Sec-WebSocket-Key", "the sample nonce"},
		"without a version":    {"Sec-WebSocket-Version", ""},
		"of version 8":         {"Sec-WebSocket-Version", "8"},
		"of several versions":  {"Sec-WebSocket-Version", "13, 8"},
		"to something else":    {"Upgrade", "h2c"},
		"without a connection": {"Connection", "keep-alive"},
	} {
		bad := maps.Clone(e2e.Upgrade)
		if bad[header[0]] = header[1]; header[1] == "" {
			delete(bad, header[0])
		}
		t.Log(what)
		e2e.Ask{Method: "GET", Path: "/v1/gateway?ticket=" + mine, Header: bad}.To(t, relay).Want(t, 426,
			"upgrade_required")
	}
	for what, r := range map[string]struct{ version, connection, more string }{
		"of HTTP/1.0":            {"1.0", "Upgrade", "\r\n"},
		"of a connection to end": {"1.1", "Upgrade, close", "\r\n"},
		"of an ending one":       {"1.1", "close, Upgrade", "\r\n"},
		"with chunks":            {"1.1", "Upgrade", "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
		"with a body":            {"1.1", "Upgrade", "Content-Length: 3\r\n\r\nabc"},
		"that expects an answer": {"1.1", "Upgrade", "Expect: 100-continue\r\nContent-Length: 3\r\n\r\nabc"},
	} {
		request := "GET /v1/gateway?ticket=" + mine + " HTTP/" + r.version + "\r\nHost: relay\r\n"
		for name, value := range e2e.Upgrade {
			if name != "Connection" {
				request += name + ": " + value + "\r\n"
			}
		}
		t.Log(what)
		wire := e2e.DialWire(t, relay)
		wire.Send(request + "Connection: " + r.connection + "\r\n" + r.more)
		wire.ReplyTo("GET", "/v1/gateway").Want(t, 426, "upgrade_required")
	}
	head := e2e.Ask{Method: "HEAD", Path: "/v1/gateway?ticket=" + mine, Header: e2e.Upgrade}.To(t, relay)
	if head.Status != 405 {
		t.Errorf("HEAD: status %d", head.Status)
	}
	ctx, cancel := context.WithTimeout(t.Context(), relaytest.Patience)
	defer cancel()
	reading := live.CloseRead(ctx) // a ping needs somebody who reads
	if err := live.Ping(ctx); err != nil || reading.Err() != nil {
		t.Errorf("the live socket: %v", err)
	}
	if socket, status := relay.Dial(t, "?ticket="+mine, nil); socket == nil {
		t.Errorf("the ticket has been used up: status %d", status)
	}
}
