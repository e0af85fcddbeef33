package e2e

import (
	"maps"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/obscura-relay/obscura/internal/app"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
	"github.com/obscura-relay/obscura/internal/limit"
)

// Limits sets some limits to so many events an hour.
func Limits(events int, names ...string) func(*app.Config) {
	return func(c *app.Config) {
		if c.RateLimits, c.Limits = "on", maps.Clone(c.Limits); c.Limits == nil {
			c.Limits = map[string]limit.Rate{}
		}
		for _, name := range names {
			c.Limits[name] = limit.Rate{Events: events, Per: time.Hour}
		}
	}
}

// From is a client with an address of its own: all of 127.0.0.0/8 is this machine.
func From(t *testing.T, address string) *http.Client {
	t.Helper()
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	transport := &http.Transport{DialContext: dialer.DialContext}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: relaytest.Validated(t, transport), Timeout: relaytest.Patience}
}
