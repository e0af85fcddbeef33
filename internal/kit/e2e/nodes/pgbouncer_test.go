package nodes_test

import (
	"testing"
	"time"

	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
	"github.com/obscura-relay/obscura/internal/kit/testdb"
)

// Revocations on a node that talks to the server reach one that talks to a pooler.
func TestARevocationReachesANodeBehindASessionPool(t *testing.T) {
	t.Parallel()
	url := testdb.NewURL(t)
	direct := relaytest.StartOn(t, url)
	pooled := relaytest.StartOn(t, testdb.NewPgBouncer(t, url, "session"))
	user := direct.Register(t)
	for _, pair := range [][2]*relaytest.Relay{{direct, pooled}, {pooled, direct}} {
		device := user.NewDevice(t)
		if !e2e.Works(t, pair[1], device.Token) {
			t.Error("the device's token does not work")
		}
		e2e.Ask{Method: "DELETE", Path: "/v1/devices/" + device.ID.String(), Token: user.Token}.To(t, pair[0]).Want(t,
			200, "")
		e2e.EndsWithinASecond(t, pair[1], device.Token, time.Now())
	}
}
