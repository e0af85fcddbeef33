package main

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/obscura-relay/obscura/internal/kit/testdb"
)

func TestHealthcheckSaysWhetherTheRelayIsReady(t *testing.T) {
	t.Parallel()
	_, _, management := serving(t, []string{"OBSCURA_DATABASE_URL=" + testdb.NewURL(t)})
	address := strings.TrimPrefix(management, "http://")
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	// A proxy of the environment is not asked; an address for all of the machine is this machine's.
	for _, listen := range []string{address, "0.0.0.0:" + port, ":" + port} {
		out, err := command(t, []string{"OBSCURA_MANAGEMENT_LISTEN=" + listen, "HTTP_PROXY=http://127.0.0.1:1"},
			"healthcheck").CombinedOutput()
		if err != nil || !strings.Contains(string(out), `"status":"ready"`) {
			t.Errorf("%s: %v: %s", listen, err, out)
		}
	}
}

func TestHealthcheckFailsWithoutAReadyRelay(t *testing.T) {
	t.Parallel()
	unready := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/readyz" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_, _ = w.Write([]byte(`{"status":"unavailable"}`))
	}))
	t.Cleanup(unready.Close)
	for address, want := range map[string]string{
		strings.TrimPrefix(unready.URL, "http://"): `obscura: the relay is not ready: {"status":"unavailable"}`,
		"127.0.0.1:1": "obscura: no relay answers: ",
		"9090":        "--management-listen (OBSCURA_MANAGEMENT_LISTEN) must be HOST:PORT",
	} {
		if out := fails(t, nil, "healthcheck", "--management-listen="+address); !strings.Contains(out, want) {
			t.Errorf("%s: %q, want %q", address, out, want)
		}
	}
}
