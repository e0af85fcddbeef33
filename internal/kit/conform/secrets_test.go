package conform

import (
	"bytes"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

// A relay under test may answer with anything. What it was sent in confidence must not be shown.
func TestNoSecretIsShown(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	var mu sync.Mutex
	secrets := map[string]bool{}
	gossip := func(*broken) spoil {
		return spoil{http: func(a *ask, forward func(*ask) *reply) *reply {
			r := forward(a)
			if r == nil || r.socket != nil {
				return r
			}
			mu.Lock()
			defer mu.Unlock()
			for _, m := range []map[string]any{object(a.body), object(r.body)} {
				for _, name := range []string{"password", "currentPassword", "newPassword", "token", "refreshToken",
					"ticket"} {
					if s := text(m, name); len(s) > 20 {
						secrets[s] = true
					}
				}
			}
			if password := text(object(a.body), "password"); a.where == "POST /v1/sessions" && password != "" {
				return madeError(http.StatusTeapot, password)
			}
			if a.where == "POST /v1/sessions/refresh" {
				return made(http.StatusTeapot, map[string]string{text(object(a.body), "refreshToken"): "x"})
			}
			return r
		}}
	}
	var table bytes.Buffer
	file := filepath.Join(t.TempDir(), "results.json")
	results, err := Run(t.Context(),
		Config{URL: breakIt(t, relay.API, fault{make: gossip}), Only: []string{"accounts", "tokens.refresh"},
			Out: &table, JSON: file})
	if err == nil || results.Failed < 4 {
		t.Fatalf("%+v, %v", results, err)
	}
	written, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if len(secrets) < 10 {
		t.Fatalf("%d secrets", len(secrets))
	}
	for secret := range maps.Keys(secrets) {
		if strings.Contains(table.String(), secret) || bytes.Contains(written, []byte(secret)) {
			t.Errorf("shown: %s", secret)
		}
	}
	if !strings.Contains(table.String(), "FAIL") || !strings.Contains(table.String(), "418") {
		t.Errorf("the table:\n%s", &table)
	}
}
