package nodes_test

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
	"github.com/obscura-relay/obscura/internal/kit/testdb"
	"github.com/obscura-relay/obscura/internal/kit/wait"
)

// Both servers must have them.
var replicated = []string{"wal_level=replica", "max_wal_senders=4"}

// newPrimary and newStandby are two servers; what the first confirms is on both. The folders are
// empty before.
func newPrimary(t *testing.T, folder, standby string) (url string) {
	t.Helper()
	if err := startCluster(t, folder, replicated...).Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(standby, "cluster")
	if out, err := exec.CommandContext(t.Context(), "cp", "-a", filepath.Join(folder, "cluster"), copied).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := os.WriteFile(filepath.Join(copied, "standby.signal"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	return startCluster(t, folder, append(slices.Clone(replicated), "synchronous_standby_names=*")...).URL()
}

func newStandby(t *testing.T, folder string, primary *url.URL) (url string) {
	t.Helper()
	source := fmt.Sprintf("primary_conninfo=host=%s port=%s user=%s sslmode=disable", primary.Hostname(), primary.Port(),
		primary.User.Username())
	return startCluster(t, folder, append(slices.Clone(replicated), source)...).URL()
}

// address is a URL as it is read.
func address(t *testing.T, of string) *url.URL {
	t.Helper()
	u, err := url.Parse(of)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// The relay's URL names both servers, and the standby first.
func TestAFailoverToAStandbyLosesNothing(t *testing.T) {
	t.Parallel()
	there := t.TempDir()
	wayToPrimary := testdb.NewProxy(t, newPrimary(t, filepath.Join(t.TempDir(), "pg"), there))
	standby := newStandby(t, there, address(t, wayToPrimary.URL))
	both := address(t, testdb.NewProxy(t, standby).URL)
	both.Host += "," + address(t, wayToPrimary.URL).Host
	both.RawQuery = "sslmode=disable&target_session_attrs=read-write"
	relay := relaytest.StartOn(t, both.String())
	alice, bob := relay.Register(t).NewDevice(t), relay.Register(t).NewDevice(t)
	socket := bob.Connect(t)
	e2e.SendMany(t, alice, bob, "before", 20)

	wayToPrimary.Close()
	key, late := uuid.New(), relaytest.To(bob.ID, "after")
	wait.Eventually(t, "a standby alone is not ready", func() bool {
		if status, answer := alice.TrySend(t, &key, late); status != http.StatusServiceUnavailable {
			t.Fatalf("a message for the standby: status %d: %s", status, answer)
		}
		ready, parts := e2e.Readiness(t, relay)
		return ready == http.StatusServiceUnavailable && parts["database"] == "unavailable"
	})
	testdb.Exec(t, standby, "SELECT pg_promote()")
	wait.Eventually(t, "the new primary takes messages", func() bool {
		status, _ := alice.TrySend(t, &key, late)
		return status == http.StatusOK
	})
	mail := socket.Envelopes(21)
	e2e.InOrder(t, mail, 1)
	if last := string(mail[20].GetMessage()); last != "after" {
		t.Errorf("the last is %q", last)
	}
	socket.Ack(mail...)
	e2e.Pending(t, e2e.Database(t, relay), bob.ID, 0)
	wait.Eventually(t, "the relay is ready", func() bool {
		ready, _ := e2e.Readiness(t, relay)
		return ready == http.StatusOK
	})
}
