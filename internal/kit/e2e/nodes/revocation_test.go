package nodes_test

import (
	"testing"
	"time"

	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
	"github.com/obscura-relay/obscura/internal/kit/testdb"
	"github.com/obscura-relay/obscura/internal/kit/wait"
)

// socketEnds bounds the end of a socket on a machine that does other things as well. The second
// that is promised is tested in fake time (internal/gateway/deaf_test.go).
const socketEnds = 2 * time.Second

// TestARevokedTokenStopsWithinASecondWhateverHappensToTheBus revokes on one node and asks another
// that has remembered the token and has a socket of it, while the notices to it are disturbed.
func TestARevokedTokenStopsWithinASecondWhateverHappensToTheBus(t *testing.T) {
	t.Parallel()
	const terminate = `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
		WHERE application_name = 'obscura-notices' AND datname = current_database()`
	for name, c := range map[string]struct {
		before, after func(t *testing.T, w *e2e.Wall, one *relaytest.Relay)
	}{
		"nothing": {},
		"the connection is cut just before": {before: func(t *testing.T, _ *e2e.Wall, one *relaytest.Relay) {
			e2e.Execute(t, e2e.Database(t, one), terminate)
		}},
		"the connection is cut just after": {after: func(t *testing.T, _ *e2e.Wall, one *relaytest.Relay) {
			e2e.Execute(t, e2e.Database(t, one), terminate)
		}},
		"the connection is silent but not dead": {before: func(_ *testing.T, w *e2e.Wall, _ *relaytest.Relay) {
			w.Freeze("obscura-notices")
		}},
		"the connection answers and hears nothing": {before: func(_ *testing.T, w *e2e.Wall, _ *relaytest.Relay) {
			w.Deafen()
		}},
		"the database is unavailable for this node": {before: func(_ *testing.T, w *e2e.Wall, _ *relaytest.Relay) {
			w.Leave()
		},
			after: func(_ *testing.T, w *e2e.Wall, _ *relaytest.Relay) { w.ComeBack() }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := testdb.NewURL(t)
			w, through := e2e.NewWall(t, url)
			one, two := relaytest.StartOn(t, url), relaytest.StartOn(t, through)
			user := one.Register(t)
			device := user.NewDevice(t)
			wait.Eventually(t, "the node is ready", func() bool {
				return e2e.Ask{Method: "GET", Path: "/v1/account", Token: device.Token}.To(t, two).Status == 200
			})
			socket := device.On(two).Connect(t)
			socket.Drain()
			type end struct {
				code int
				at   time.Time
			}
			closed := make(chan end, 1)
			go func() { closed <- end{socket.CloseCode(), time.Now()} }()
			if c.before != nil {
				c.before(t, w, one)
			}
			e2e.Ask{Method: "DELETE", Path: "/v1/devices/" + device.ID.String(), Token: user.Token}.To(t, one).Want(t,
				200, "")
			ended := time.Now()
			if c.after != nil {
				c.after(t, w, one)
			}
			wait.Eventually(t, "the token is refused", func() bool {
				asked := time.Now()
				got := e2e.Ask{Method: "GET", Path: "/v1/account", Token: device.Token}.To(t, two)
				if got.Status == 200 && asked.Sub(ended) > time.Second {
					t.Fatalf("accepted %v after its end", asked.Sub(ended))
				}
				return got.Status == 401 // 503 while the database is unavailable
			})
			if e := <-closed; e.code != 4401 || e.at.Sub(ended) > socketEnds {
				t.Errorf("the socket ended with %d after %v", e.code, e.at.Sub(ended))
			}
			w.Freeze("")
			// It recovers, or asks the database: what is revoked now is refused at once, and what
			// is not goes on.
			fresh := user.NewDevice(t)
			if !e2e.Works(t, two, fresh.Token) {
				t.Error("the other node does not work any more")
			}
			e2e.Ask{Method: "DELETE", Path: "/v1/devices/" + fresh.ID.String(), Token: user.Token}.To(t, one).Want(t,
				200, "")
			e2e.EndsWithinASecond(t, two, fresh.Token, time.Now())
		})
	}
}
