package e2e

import (
	"io"
	"strings"
	"testing"

	"github.com/obscura-relay/obscura/internal/admin"
	"github.com/obscura-relay/obscura/internal/app"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

// Administer runs a command of the operator on a relay's database, and returns what it prints.
func Administer(t testing.TB, relay *relaytest.Relay, c admin.Command) string {
	t.Helper()
	var out strings.Builder
	if err := app.Administer(t.Context(), app.Database{DatabaseURL: relay.DatabaseURL}, c, false, &out,
		io.Discard); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out.String())
}
