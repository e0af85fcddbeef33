package relaytest

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/obscura-relay/obscura/internal/kit/contract"
)

// Validated is a transport that holds every answer against the contract: for a test that needs
// connections of its own.
func Validated(t testing.TB, next http.RoundTripper) http.RoundTripper {
	return &contract.Transport{Next: next, Report: func(sentence string) { t.Error(sentence) }}
}

// Check holds an answer against the contract. The request is nil when the relay could not read it.
func Check(t testing.TB, request *http.Request, response *http.Response, body []byte) {
	t.Helper()
	for _, sentence := range contract.Check(request, response, body) {
		t.Error(sentence)
	}
}

// Front is the URL of a proxy before the relay that holds every answer against the contract: for
// programs with a client of their own.
func (r *Relay) Front(t testing.TB) string {
	t.Helper()
	api, err := url.Parse(r.API)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	server := httptest.NewServer(contract.Front(api,
		&contract.Transport{Next: transport, Report: func(sentence string) { t.Error(sentence) }}))
	t.Cleanup(func() {
		server.Close()
		transport.CloseIdleConnections()
	})
	return server.URL
}
