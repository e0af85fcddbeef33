package app_test

import (
	"strings"
	"testing"
	"time"

	"github.com/obscura-relay/obscura/internal/relaytest"
	"github.com/obscura-relay/obscura/internal/testdb"
)

// poolable are the settings of our connections that a PgBouncer has to let pass.
const poolable = "ignore_startup_parameters = statement_timeout,lock_timeout,idle_in_transaction_session_timeout," +
	"enable_seqscan,enable_hashjoin,enable_mergejoin,plan_cache_mode,synchronous_commit"

// A relay that could not hear of revocations does not start, and says what to change.
func TestARelayBehindATransactionPoolDoesNotStart(t *testing.T) {
	t.Parallel()
	url := testdb.NewPgBouncer(t, testdb.NewURL(t), "transaction", poolable)
	if got := refused(t, relaytest.Config(t, url)); !strings.Contains(got, "a PgBouncer with pool_mode = session") {
		t.Errorf("the start ended with: %s", got)
	}
}

// Revocations on a node that talks to the server reach one that talks to a pooler.
func TestARevocationReachesANodeBehindASessionPool(t *testing.T) {
	t.Parallel()
	url := testdb.NewURL(t)
	direct := relaytest.StartOn(t, url)
	pooled := relaytest.StartOn(t, testdb.NewPgBouncer(t, url, "session", poolable))
	user := direct.Register(t)
	for _, pair := range [][2]*relaytest.Relay{{direct, pooled}, {pooled, direct}} {
		device := user.NewDevice(t)
		if !works(t, pair[1], device.Token) {
			t.Error("the device's token does not work")
		}
		ask{method: "DELETE", path: "/v1/devices/" + device.ID.String(), token: user.Token}.to(t, pair[0]).want(t, 200, "")
		endsWithinASecond(t, pair[1], device.Token, time.Now())
	}
}
