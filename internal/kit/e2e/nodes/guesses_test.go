package nodes_test

import (
	"fmt"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/obscura-relay/obscura/internal/app"
	"github.com/obscura-relay/obscura/internal/core/account"
	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
	"github.com/obscura-relay/obscura/internal/kit/testdb"
)

// TestGuessersOnTwoNodesNeitherGuessMuchNorLockTheOwnerOut has a hundred networks guess the
// password of a name on two nodes at once. Meanwhile the owner logs in with a device that is known,
// and, as told, with one that is not. The count is in the database: a node that restarts has it.
func TestGuessersOnTwoNodesNeitherGuessMuchNorLockTheOwnerOut(t *testing.T) {
	t.Parallel()
	const networks, rounds = 100, 15
	url := testdb.NewURL(t)
	proxied := func(c *app.Config) {
		c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	}
	nodes := []*relaytest.Relay{relaytest.StartOn(t, url, proxied), relaytest.StartOn(t, url, proxied)}
	user := nodes[0].Register(t)
	device := user.NewDevice(t)
	from := func(network int, ask e2e.Ask) e2e.Ask {
		ask.Header = map[string]string{"X-Forwarded-For": fmt.Sprintf("198.18.0.%d", network)}
		return ask
	}
	known := from(200, e2e.Ask{Method: "POST", Path: "/v1/sessions", Body: e2e.Object("username", user.Name,
		"password", relaytest.Password, "refreshToken", device.Refresh)})
	stranger := from(201, e2e.LogIn(user.Name, relaytest.Password))

	begun := time.Now()
	var looked, refused atomic.Int32
	var wg sync.WaitGroup
	for worker := range 10 {
		wg.Go(func() {
			for n := range networks * rounds / 10 {
				ask := from((10*n+worker)%networks, e2e.LogIn(user.Name, "not the right password"))
				switch got := ask.To(t, nodes[n%2]); {
				case got.Status == 401:
					looked.Add(1)
				case got.Status == 429 && got.Code == "too_many_wrong_passwords":
					refused.Add(1)
				default:
					t.Errorf("status %d, code %s", got.Status, got.Code)
				}
				if n%50 == 25 {
					known.To(t, nodes[n/50%2]).Want(t, 200, "")
				}
			}
		})
	}
	wg.Wait()
	// Ten of each node at first; then a turn for each network that was told a short wait.
	t.Logf("%d guesses in %v: %d were looked at, %d refused", looked.Load()+refused.Load(), time.Since(begun), looked.Load(),
		refused.Load())
	if most := int32(2*account.FreeGuesses + 2*networks); looked.Load() > most {
		t.Errorf("%d guesses were looked at, want at most %d", looked.Load(), most)
	}

	told := stranger.To(t, nodes[0]).Want(t, 429, "too_many_wrong_passwords")
	seconds, err := strconv.Atoi(told.Header.Get("Retry-After"))
	if err != nil || seconds < 60 || seconds > 900 {
		t.Errorf("a new device is told to wait %d s, %v", seconds, err)
	}
	later := relaytest.StartOn(t, url, proxied)
	for n := range 10 { // networks that have no turn yet
		from(210+n, e2e.LogIn(user.Name, "not the right password")).To(t, later).Want(t, 429, "too_many_wrong_passwords")
	}
	e2e.Execute(t, e2e.Database(t, later), `UPDATE wrong_passwords SET next_at = next_at - make_interval(secs => $1)`, seconds)
	for n := range networks {
		from(n, e2e.LogIn(user.Name, "not the right password")).To(t, nodes[n%2])
	}
	stranger.To(t, later).Want(t, 200, "")
}
