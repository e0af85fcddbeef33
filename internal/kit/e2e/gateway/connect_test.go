package gateway_test

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
	"github.com/obscura-relay/obscura/internal/kit/testdb"
)

func bearer(token string) http.Header { return http.Header{"Authorization": {"Bearer " + token}} }

func TestATicketOpensOneSocket(t *testing.T) {
	t.Parallel()
	one := relaytest.Start(t)
	two := relaytest.StartOn(t, one.DatabaseURL)
	alice := one.Register(t).NewDevice(t)
	mine := e2e.Ticket(t, alice)
	socket, status := two.Dial(t, "?ticket="+mine, nil) // valid on every node
	if socket == nil {
		t.Fatalf("status %d", status)
	}
	for _, node := range []*relaytest.Relay{one, two} {
		if again, status := node.Dial(t, "?ticket="+mine, nil); again != nil || status != http.StatusUnauthorized {
			t.Errorf("the second time: status %d", status)
		}
	}
	if _, _, last := socket.Drain(); last != 0 {
		t.Errorf("drained at %d", last)
	}
}

func TestOfTwoThatUseATicketAtTheSameInstantOneGetsIt(t *testing.T) {
	t.Parallel()
	one := relaytest.Start(t)
	two := relaytest.StartOn(t, one.DatabaseURL)
	alice := one.Register(t).NewDevice(t)
	for range 10 {
		mine := e2e.Ticket(t, alice)
		var opened, refused atomic.Int32
		e2e.Together(4, func(i int) {
			switch socket, status := []*relaytest.Relay{one, two}[i%2].Dial(t, "?ticket="+mine, nil); {
			case socket != nil:
				opened.Add(1)
			case status == http.StatusUnauthorized:
				refused.Add(1)
			}
		})
		if opened.Load() != 1 || refused.Load() != 3 {
			t.Fatalf("%d opened, %d refused", opened.Load(), refused.Load())
		}
	}
}

// A session that somebody holds alone, as a refresh of it does, waits for its ticket, and nobody
// else waits with it. One that has ended meanwhile gets none.
func TestAHeldSessionHoldsUpItsOwnTicketOnly(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	held, free := relay.Register(t).NewDevice(t), relay.Register(t).NewDevice(t)
	db := e2e.Database(t, relay)
	for _, end := range []struct {
		by   string
		want int
	}{{"SELECT FROM sessions", http.StatusCreated}, {"DELETE FROM sessions", http.StatusUnauthorized}} {
		tx, err := db.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(t.Context(), "SELECT FROM sessions WHERE user_id = $1 FOR UPDATE", held.User.ID); err != nil {
			t.Fatal(err)
		}
		status := make(chan int, 1)
		go func() {
			got, err := held.CreateGatewayTicketWithResponse(t.Context())
			if err != nil {
				t.Error(err)
			}
			status <- got.StatusCode()
		}()
		testdb.AwaitWaiting(t, db, 1)
		e2e.Ticket(t, free)
		if _, err := tx.Exec(t.Context(), end.by+" WHERE user_id = $1", held.User.ID); err != nil {
			t.Fatal(err)
		}
		if err := tx.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := <-status; got != end.want {
			t.Errorf("%s: status %d, want %d", end.by, got, end.want)
		}
	}
}

func TestATicketLasts30Seconds(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	alice := relay.Register(t).NewDevice(t)
	db := e2e.Database(t, relay)
	mine := e2e.Ticket(t, alice)
	if n := e2e.Count(t, db, "SELECT round(extract(epoch FROM expires_at - now()))::int FROM gateway_tickets"); n < 28 || n > 30 {
		t.Errorf("it lasts %d s", n)
	}
	e2e.Change(t, db, "UPDATE gateway_tickets SET expires_at = now() - interval '1 millisecond'")
	if socket, status := relay.Dial(t, "?ticket="+mine, nil); socket != nil || status != http.StatusUnauthorized {
		t.Errorf("status %d", status)
	}
}

func TestATicketEndsWithItsDeviceAndItsSession(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	user := relay.Register(t)
	alice, other := user.NewDevice(t), user.NewDevice(t)
	ofDevice, ofSession := e2e.Ticket(t, alice), e2e.Ticket(t, other)
	if _, err := user.DeleteDeviceWithResponse(t.Context(), alice.ID); err != nil {
		t.Fatal(err)
	}
	e2e.Change(t, e2e.Database(t, relay), "DELETE FROM sessions WHERE device_id = $1", other.ID) // a log-out
	for what, mine := range map[string]string{"device": ofDevice, "session": ofSession} {
		if socket, status := relay.Dial(t, "?ticket="+mine, nil); socket != nil || status != http.StatusUnauthorized {
			t.Errorf("the ticket of a deleted %s: status %d", what, status)
		}
	}
}

func TestTheGatewayRefusesOverHTTP(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	user := relay.Register(t)
	alice := user.NewDevice(t)
	for _, c := range []struct {
		name, query string
		header      http.Header
		status      int
	}{
		{"no credential", "", nil, 401},
		{"an unknown ticket", "?ticket=" + strings.Repeat("A", 43), nil, 401},
		{"an empty ticket", "?ticket=", nil, 401},
		{"nonsense for a ticket", "?ticket=%00%ff%20", nil, 401},
		{"a bad bearer token", "", bearer("nonsense"), 401},
		{"a bad ticket beside a good token", "?ticket=bad", bearer(alice.Token), 401},
		{"a user-scoped token", "", bearer(user.Token), 403},
	} {
		if socket, status := relay.Dial(t, c.query, c.header); socket != nil || status != c.status {
			t.Errorf("%s: status %d, want %d", c.name, status, c.status)
		}
	}
	// Without an upgrade nothing is used up.
	mine := e2e.Ticket(t, alice)
	response, err := relay.HTTP().Get(relay.API + "/v1/gateway?ticket=" + mine)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusUpgradeRequired {
		t.Errorf("without an upgrade: status %d", response.StatusCode)
	}
	if socket, status := relay.Dial(t, "?ticket="+mine, nil); socket == nil {
		t.Errorf("afterwards: status %d", status)
	}
	if got, err := user.CreateGatewayTicketWithResponse(t.Context()); err != nil ||
		got.StatusCode() != http.StatusForbidden {
		t.Errorf("a ticket for a user-scoped token: %v, %v", err, got)
	}
}

// A native client sends no Origin and no ticket; a browser sends an Origin and cannot send headers.
func TestANativeClientConnectsWithItsTokenAndABrowserFromAnyOrigin(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	alice, bob := relay.Register(t).NewDevice(t), relay.Register(t).NewDevice(t)
	native, status := relay.Dial(t, "", bearer(bob.Token))
	if native == nil {
		t.Fatalf("native: status %d", status)
	}
	alice.Send(t, nil, relaytest.To(bob.ID, "hello"))
	if got := e2e.Texts(dropDrained(native)); got != "hello" {
		t.Errorf("%q arrived", got)
	}
	browser, status := relay.Dial(t, "?ticket="+e2e.Ticket(t, alice),
		http.Header{"Origin": {"https://chat.example.org"}})
	if browser == nil {
		t.Fatalf("browser: status %d", status)
	}
	browser.Drain()
}
