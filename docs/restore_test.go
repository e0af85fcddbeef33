package docs_test

import (
	"os"
	"regexp"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

var sqlBlock = regexp.MustCompile(`(?s)"\$RESTORED" <<'SQL'\n(.*?)SQL\n`)

// operations.md tells what to do with a restored database before a relay runs on it.
func TestARestoredDatabaseGoesOnBehindAllThatDevicesHaveSeen(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("operations.md")
	if err != nil {
		t.Fatal(err)
	}
	m := sqlBlock.FindSubmatch(text)
	if m == nil {
		t.Fatal("operations.md has no SQL for a restored database")
	}
	before := relaytest.Start(t)
	alice, bob := before.Register(t).NewDevice(t), before.Register(t).NewDevice(t)
	alice.Send(t, nil, relaytest.To(bob.ID, "one"))
	before.Stop()

	conn, err := pgx.Connect(t.Context(), before.DatabaseURL)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), string(m[1])); err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(t.Context()); err != nil {
		t.Fatal(err)
	}

	after := relaytest.StartOn(t, before.DatabaseURL)
	alice, bob = alice.On(after), bob.On(after)
	socket := bob.Connect(t)
	envelopes, gaps, drained := socket.Drain()
	if len(envelopes) != 1 || envelopes[0].GetSequence() != 1 {
		t.Errorf("what was pending: %v", envelopes)
	}
	if len(gaps) != 1 || gaps[0].GetFrom() != 2 || gaps[0].GetTo() != 1_000_001 || drained != 1_000_001 {
		t.Errorf("gaps %v, drained %d", gaps, drained)
	}
	if n := socket.Status.GetOneTimePreKeyCount() + socket.Status.GetKyberPreKeyCount(); n != 0 {
		t.Errorf("%d one-time keys that may have been handed out", n)
	}
	alice.Send(t, nil, relaytest.To(bob.ID, "two"))
	if e := socket.Envelopes(1); e[0].GetSequence() != 1_000_002 {
		t.Errorf("the next envelope: %v", e)
	}
	bundles, err := alice.GetPreKeyBundlesWithResponse(t.Context(), bob.User.ID, nil)
	if err != nil || bundles.JSON200 == nil || (*bundles.JSON200)[0].OneTimePreKey != nil ||
		(*bundles.JSON200)[0].KyberPreKey.KeyID != 1 {
		t.Errorf("bundles: %v %s", err, bundles.Body)
	}
}
