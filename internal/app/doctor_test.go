package app_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/obscura-relay/obscura/internal/app"
	"github.com/obscura-relay/obscura/internal/kit/certtest"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
	"github.com/obscura-relay/obscura/internal/kit/testdb"
)

// examined is what the doctor finds, by part.
func examined(t *testing.T, cfg app.Config, url string) (found map[string]app.Finding, err error) {
	t.Helper()
	var out bytes.Buffer
	err = app.Doctor(t.Context(), cfg, url, true, &out)
	var list []struct{ Part, State, Finding, Advice string }
	if decoded := json.Unmarshal(out.Bytes(), &list); decoded != nil {
		t.Fatalf("%v: %s", decoded, &out)
	}
	states := map[string]app.State{"ok": app.StateOK, "warning": app.StateWarning, "problem": app.StateProblem}
	found = map[string]app.Finding{}
	for _, f := range list {
		if f.State != "ok" && f.Advice == "" {
			t.Errorf("no advice: %+v", f)
		}
		found[f.Part] = app.Finding{Part: f.Part, State: states[f.State], Finding: f.Finding, Advice: f.Advice}
	}
	return found, err
}

func TestDoctorFindsARunningRelayWell(t *testing.T) {
	t.Parallel()
	var cfg app.Config
	relay := relaytest.Start(t, func(c *app.Config) { cfg = *c })
	cfg.Listen = strings.TrimPrefix(relay.API, "http://")
	cfg.ManagementListen = strings.TrimPrefix(relay.Management, "http://")
	cfg.BlobURL, cfg.DataDir = "", filepath.Join(t.TempDir(), "data")
	if err := os.Mkdir(cfg.DataDir, 0o700); err != nil {
		t.Fatal(err)
	}
	found, err := examined(t, cfg, relay.API)
	if err == nil || err.Error() != "there are 2 problems" { // the servers of tests may lose what they say is kept
		t.Error(err)
	}
	for _, part := range []string{"fsync", "full_page_writes"} {
		if f := found[part]; f.State != app.StateProblem || f.Finding != "off" {
			t.Errorf("%s: %+v", part, f)
		}
	}
	for _, part := range []string{"data folder", "API port", "management port", "database", "encoding", "collation", "clock",
		"autovacuum", "schema", "notices", "blobs", "from outside", "gateway", "transaction ids"} {
		if f, there := found[part]; !there || f.State != app.StateOK {
			t.Errorf("%s: %+v", part, f)
		}
	}
	if f, there := found["proxy"]; there {
		t.Errorf("there is no proxy: %+v", f)
	}
}

// certificateFor has files with a certificate that is good for so long.
func certificateFor(left time.Duration) func(*testing.T, *app.Config) string {
	return func(t *testing.T, c *app.Config) string {
		folder, end := t.TempDir(), time.Now().Add(left)
		certificate, key := certtest.New().Issue(end.Add(-90*24*time.Hour), end)
		c.TLSCertificate, c.TLSKey = filepath.Join(folder, "certificate"), filepath.Join(folder, "key")
		for name, content := range map[string][]byte{c.TLSCertificate: certificate, c.TLSKey: key} {
			if err := os.WriteFile(name, content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return ""
	}
}

// kept has a domain whose certificate is good for so long, of so much in all. Nothing in all stands
// for a relay that never ran, and nothing left for one that has got none.
func kept(left, whole time.Duration) func(*testing.T, *app.Config) string {
	return func(t *testing.T, c *app.Config) string {
		c.Domain, c.DataDir = []string{"nothing.invalid"}, t.TempDir()
		c.Listen, c.HTTPListen = testdb.FreeAddress(t), testdb.FreeAddress(t)
		if whole == 0 {
			return ""
		}
		folder := filepath.Join(c.DataDir, "acme", "certificates", "acme-v02.api.letsencrypt.org-directory", "nothing.invalid")
		if err := os.MkdirAll(folder, 0o700); err != nil {
			t.Fatal(err)
		}
		if left != 0 {
			end := time.Now().Add(left)
			certificate, _ := certtest.New().Issue(end.Add(-whole), end)
			if err := os.WriteFile(filepath.Join(folder, "nothing.invalid.crt"), certificate, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return ""
	}
}

// othersFolder is one that belongs to another user than the one that runs the test.
func othersFolder(t *testing.T) string {
	folder := t.TempDir()
	if os.Chown(folder, 4711, 4711) != nil { // only root may give away
		return "/"
	}
	return folder
}

// TestDoctorMakesNothing looks at a relay that has never run.
func TestDoctorMakesNothing(t *testing.T) {
	t.Parallel()
	cfg := relaytest.Config(t, testdb.NewURL(t))
	cfg.DataDir, cfg.BlobURL = t.TempDir(), ""
	_ = app.Doctor(t.Context(), cfg, "", true, io.Discard)
	if made, err := os.ReadDir(cfg.DataDir); err != nil || len(made) != 0 {
		t.Errorf("the doctor made %v, %v", made, err)
	}
}

func TestDoctorFindsWhatIsBroken(t *testing.T) {
	t.Parallel()
	elsewhere := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(elsewhere.Close)
	strange := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(strange.Close)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = taken.Close() })
	altered := func(t *testing.T, setting string) string {
		url := testdb.NewURL(t)
		testdb.Exec(t, url, `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET `+setting+`', current_database()); END $$`)
		return url
	}
	for _, test := range []struct {
		name, part string
		state      app.State
		finding    string
		change     func(t *testing.T, c *app.Config) (url string)
	}{
		{"nobody serves the database", "database", app.StateProblem, "within 10s: PostgreSQL at 127.0.0.1:1: connection refused", func(_ *testing.T, c *app.Config) string {
			c.DatabaseURL = "postgres://nobody@127.0.0.1:1/nothing?sslmode=disable"
			return ""
		}},
		{"read-only", "default_transaction_read_only", app.StateProblem, "on", func(t *testing.T, c *app.Config) string {
			c.DatabaseURL = altered(t, "default_transaction_read_only = on")
			return ""
		}},
		{"a newer schema", "schema", app.StateWarning, "version 99999", func(t *testing.T, c *app.Config) string {
			testdb.Exec(t, c.DatabaseURL, "INSERT INTO goose_db_version (version_id, is_applied) VALUES (99999, true)")
			return ""
		}},
		{"an older schema", "schema", app.StateWarning, "version 3;", func(t *testing.T, c *app.Config) string {
			testdb.Exec(t, c.DatabaseURL, "DELETE FROM goose_db_version WHERE version_id > 3")
			return ""
		}},
		{"another's data folder", "data folder", app.StateWarning, "belongs to another user",
			func(t *testing.T, c *app.Config) string { c.DataDir, c.BlobURL = othersFolder(t), ""; return "" }},
		{"another's blob store", "blobs", app.StateWarning, "belongs to another user",
			func(t *testing.T, c *app.Config) string { c.BlobURL = "file://" + othersFolder(t); return "" }},
		{"a pool larger than the server", "max_connections", app.StateProblem, "needs 5006",
			func(_ *testing.T, c *app.Config) string { c.DatabaseConnections = 5000; return "" }},
		{"NATS", "NATS", app.StateProblem, "no servers available", func(t *testing.T, c *app.Config) string {
			c.NATSURL = "nats://" + testdb.FreeAddress(t)
			return ""
		}},
		{"the folder of blobs", "blobs", app.StateProblem, "does not exist", func(t *testing.T, c *app.Config) string {
			c.BlobURL = "file://" + filepath.Join(t.TempDir(), "missing")
			return ""
		}},
		{"a folder that all may read", "data folder", app.StateWarning, "mode 755", func(t *testing.T, c *app.Config) string {
			c.BlobURL, c.DataDir = "", t.TempDir()
			if err := os.Chmod(c.DataDir, 0o755); err != nil {
				t.Fatal(err)
			}
			return ""
		}},
		{"no relay on the management port", "management port", app.StateProblem, "is no relay",
			func(_ *testing.T, c *app.Config) string {
				c.ManagementListen = strings.TrimPrefix(elsewhere.URL, "http://")
				return ""
			}},
		{"an address of another machine", "API port", app.StateProblem, "does not have the address",
			func(_ *testing.T, c *app.Config) string { c.Listen = "192.0.2.1:3000"; return "" }},
		{"a certificate that ends tomorrow", "certificate", app.StateProblem, "good for 22 hours", certificateFor(23 * time.Hour)},
		{"a certificate that ends in a week", "certificate", app.StateWarning, "good for 6 days",
			certificateFor(7*24*time.Hour - time.Hour)},
		{"a certificate that has expired", "certificate", app.StateProblem, "has expired", certificateFor(-time.Minute)},
		{"a domain that nobody knows", "domain nothing.invalid", app.StateProblem, "lookup nothing.invalid", kept(0, 0)},
		{"no certificate before the first start", "certificate of nothing.invalid", app.StateWarning, "none yet", kept(0, 0)},
		{"a domain that got no certificate", "certificate of nothing.invalid", app.StateProblem, "has not got it", kept(0, time.Hour)},
		{"a domain whose certificate is renewed in time", "certificate of nothing.invalid", app.StateOK, "good for 29 days",
			kept(30*24*time.Hour, 90*24*time.Hour)},
		{"a domain whose certificate is not renewed", "certificate of nothing.invalid", app.StateWarning, "its renewal is late",
			kept(20*24*time.Hour, 90*24*time.Hour)},
		{"a domain whose certificate soon ends", "certificate of nothing.invalid", app.StateProblem, "good for 5 days, and its renewal",
			kept(6*24*time.Hour, 90*24*time.Hour)},
		{"a domain whose certificate has ended", "certificate of nothing.invalid", app.StateProblem, "it has expired at",
			kept(-time.Hour, 90*24*time.Hour)},
		{"nobody at the URL", "from outside", app.StateProblem, "refused", func(t *testing.T, _ *app.Config) string {
			return "http://" + testdb.FreeAddress(t)
		}},
		{"something else at the URL", "from outside", app.StateProblem, "answers 404",
			func(*testing.T, *app.Config) string { return elsewhere.URL }},
		{"a certificate that nobody knows", "from outside", app.StateProblem, "certificate",
			func(*testing.T, *app.Config) string { return strange.URL }},
		{"silence at the URL", "from outside", app.StateProblem, "no answer within",
			func(*testing.T, *app.Config) string { return "http://" + taken.Addr().String() }},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			cfg := relaytest.Config(t, testdb.NewURL(t))
			url := test.change(t, &cfg)
			found, err := examined(t, cfg, url)
			f := found[test.part]
			if f.State != test.state || !strings.Contains(f.Finding, test.finding) {
				t.Errorf("%+v", f)
			}
			if test.state == app.StateProblem && (err == nil || !strings.Contains(err.Error(), "problem")) {
				t.Error(err)
			}
		})
	}
}

func TestDoctorSeesAProxyThatDropsTheUpgrade(t *testing.T) {
	t.Parallel()
	var cfg app.Config
	relay := relaytest.Start(t, func(c *app.Config) { cfg = *c })
	cfg.Listen = strings.TrimPrefix(relay.API, "http://")
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		inner, err := http.Get(relay.API + r.URL.Path) //nolint:forbidigo // a proxy that passes no header on
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer inner.Body.Close()
		var body bytes.Buffer
		_, _ = body.ReadFrom(inner.Body)
		w.WriteHeader(inner.StatusCode)
		_, _ = w.Write(body.Bytes())
	}))
	t.Cleanup(proxy.Close)
	found, err := examined(t, cfg, proxy.URL)
	if f := found["gateway"]; err == nil || f.State != app.StateProblem || !strings.Contains(f.Finding, "426") {
		t.Errorf("%+v, %v", f, err)
	}
	if f := found["proxy"]; f.State != app.StateWarning {
		t.Errorf("%+v", f)
	}
}
