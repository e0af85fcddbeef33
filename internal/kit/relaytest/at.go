package relaytest

import (
	"net/http"
	"testing"
)

// At talks to a relay that somebody else runs, at the URL of its API. Its answers are validated
// like any other's.
func At(t testing.TB, api string) *Relay {
	t.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	t.Cleanup(transport.CloseIdleConnections)
	return &Relay{API: api, Log: &Log{}, t: t, stop: func() {},
		http: &http.Client{Transport: Validated(t, transport), Timeout: Patience}}
}
