package api

import (
	"bytes"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"
)

func TestTheClientsAddressCannotBeMadeUp(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	s := &server{cfg: Config{Logger: slog.New(slog.NewTextHandler(&log, nil)),
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}}}
	for what, c := range map[string]struct {
		remote    string
		forwarded []string
		want      string
	}{
		"a socket":                        {"192.0.2.1", nil, "192.0.2.1"},
		"an untrusted claim":              {"192.0.2.1", []string{"198.51.100.1"}, "192.0.2.1"},
		"a trusted proxy without a claim": {"10.0.0.1", nil, "10.0.0.1"},
		"a trusted proxy":                 {"10.0.0.1", []string{"198.51.100.1"}, "198.51.100.1"},
		"the last one counts":             {"10.0.0.1", []string{"203.0.113.9, 198.51.100.1"}, "198.51.100.1"},
		"the last line counts":            {"10.0.0.1", []string{"203.0.113.9", "198.51.100.1"}, "198.51.100.1"},
		"two proxies, two lines": {"10.0.0.1", []string{"203.0.113.9, 198.51.100.1", "10.0.0.2"},
			"198.51.100.1"},
		"all are proxies":                     {"10.0.0.1", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3"},
		"garbage":                             {"10.0.0.1", []string{"x"}, "10.0.0.1"},
		"garbage beyond the client":           {"10.0.0.1", []string{"x, 198.51.100.1"}, "198.51.100.1"},
		"garbage between proxies stops there": {"10.0.0.1", []string{"203.0.113.9, x, 10.0.0.2"}, "10.0.0.2"},
		"with a port":                         {"10.0.0.1", []string{"203.0.113.9:52114"}, "203.0.113.9"},
		"in quotes":                           {"10.0.0.1", []string{`"203.0.113.9"`}, "203.0.113.9"},
		"IPv6 in brackets":                    {"10.0.0.1", []string{"[2001:db8:1:2:3:4:5:6]"}, "2001:db8:1:2::"},
		"IPv6 in brackets with a port":        {"10.0.0.1", []string{"[2001:db8:1:2:3:4:5:6]:443"}, "2001:db8:1:2::"},
		"IPv6 in quotes, with a port": {"10.0.0.1", []string{`"[2001:db8:1:2:3:4:5:6]:443"`},
			"2001:db8:1:2::"},
		"a port at every hop": {"10.0.0.1", []string{"198.51.100.1:1, 203.0.113.9:2, 10.0.0.2:3"},
			"203.0.113.9"},
		"a bracket alone": {"10.0.0.1", []string{"[203.0.113.9"}, "10.0.0.1"},
		"a name":          {"10.0.0.1", []string{"unknown"}, "10.0.0.1"},
		"an empty line":   {"10.0.0.1", []string{""}, "10.0.0.1"},
		"a mapped socket": {"::ffff:192.0.2.1", nil, "192.0.2.1"},
		"a mapped proxy":  {"::ffff:10.0.0.1", []string{"198.51.100.1"}, "198.51.100.1"},
		"IPv6 by its /64": {"2001:db8:1:2:3:4:5:6", nil, "2001:db8:1:2::"},
		"IPv6 by its /64, forwarded": {"fd00::1", []string{"2001:db8:1:2:ffff:ffff:ffff:ffff"},
			"2001:db8:1:2::"},
		"IPv6 with a zone, forwarded":           {"fd00::1", []string{"fe80::1%eth0"}, "fe80::"},
		"IPv6 proxies are trusted by their own": {"fd00::1", []string{"198.51.100.1, fd12::1"}, "198.51.100.1"},
	} {
		var request fasthttp.RequestCtx
		request.Init(&fasthttp.Request{}, &net.TCPAddr{IP: net.ParseIP(c.remote), Port: 1}, nil)
		for _, line := range c.forwarded {
			request.Request.Header.Add("X-Forwarded-For", line)
		}
		if got := s.clientAddr(&request); got != netip.MustParseAddr(c.want) {
			t.Errorf("%s: %v, want %s", what, got, c.want)
		}
	}
	if said := log.String(); strings.Count(said, "\n") != 1 || strings.Contains(said, "203.0.113") ||
		strings.Contains(said, "10.0.0") {
		t.Errorf("what cannot be read is to be said once, without an address: %q", said)
	}
}
