package edge_test

import (
	"bufio"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/obscura-relay/obscura/internal/api"
	"github.com/obscura-relay/obscura/internal/app"
	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
	"github.com/obscura-relay/obscura/internal/kit/wait"
	"github.com/obscura-relay/obscura/internal/limit"
)

// rates lets through three of everything in an hour, but for what counts beside another limit.
func rates(c *app.Config) {
	c.RateLimits, c.Limits = "on", map[string]limit.Rate{}
	for _, row := range api.LimitTable {
		c.Limits[row.Name] = limit.Rate{Events: 3, Per: time.Hour}
	}
	for _, wide := range []string{"credentials", "lookups", "daily-sends"} {
		c.Limits[wide] = limit.Rate{Events: 1000, Per: time.Hour}
	}
}

// allowed counts how many of six are let through; the rest must hear 429 with Retry-After.
func allowed(t *testing.T, relay *relaytest.Relay, client *http.Client, make func(i int) e2e.Ask) int {
	t.Helper()
	n := 0
	for i := range 6 {
		got := make(i).Through(t, relay.API, client)
		if got.Status != http.StatusTooManyRequests {
			n++
			continue
		}
		got.Want(t, 429, "rate_limited")
		if seconds, err := strconv.Atoi(got.Header.Get("Retry-After")); err != nil || seconds < 1 || seconds > 1200 {
			t.Errorf("Retry-After is %q", got.Header.Get("Retry-After"))
		}
	}
	return n
}

// nobody tries another name each time: tries at one name have to wait, wherever they come from.
func nobody(int) e2e.Ask { return e2e.LogIn("nobody_"+rand.Text()[:20], "") }

func TestEveryRateIsLimitedByItself(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t, rates)
	user := relay.Register(t) // one of three
	device, target := user.NewDevice(t), user.NewDevice(t)
	for _, c := range []struct {
		what string
		want int
		make func(i int) e2e.Ask
	}{
		{"register", 2, func(i int) e2e.Ask { return e2e.Register("limited_"+strconv.Itoa(i), relaytest.Password) }},
		{"log in", 3, nobody},
		{"refresh", 3, func(int) e2e.Ask { return e2e.Refresh("x") }},
		{"change password and delete account", 3, func(i int) e2e.Ask {
			if i%2 == 0 {
				return e2e.Ask{Method: "DELETE", Path: "/v1/account", Token: device.Token,
					Body: e2e.Object("password", "")}
			}
			return e2e.Ask{Method: "PUT", Path: "/v1/account/password", Token: user.Token,
				Body: e2e.Object("currentPassword", "", "newPassword", relaytest.Password)}
		}},
		{"keys, after two devices", 1, func(int) e2e.Ask {
			return e2e.Ask{Method: "POST", Path: "/v1/devices/keys", Token: device.Token, Body: "{}"}
		}},
		{"bundles", 3, func(int) e2e.Ask {
			return e2e.Ask{Method: "GET", Path: "/v1/users/" + user.ID.String(), Token: device.Token}
		}},
		{"bundles, by another device", 0, func(int) e2e.Ask {
			return e2e.Ask{Method: "GET", Path: "/v1/users/" + user.ID.String(), Token: target.Token}
		}},
		{"bundles of another user", 3, func(int) e2e.Ask {
			return e2e.Ask{Method: "GET", Path: "/v1/users/" + device.ID.String(), Token: device.Token}
		}},
		{"sends", 3, func(int) e2e.Ask {
			return e2e.Ask{Method: "POST", Path: "/v1/messages", Token: device.Token, Media: "application/x-protobuf"}
		}},
		{"sends, by another device", 3, func(int) e2e.Ask {
			return e2e.Ask{Method: "POST", Path: "/v1/messages", Token: target.Token, Media: "application/x-protobuf"}
		}},
		{"tickets", 3, func(int) e2e.Ask {
			return e2e.Ask{Method: "POST", Path: "/v1/gateway/ticket", Token: device.Token}
		}},
		{"exports", 3, func(int) e2e.Ask { return e2e.Ask{Method: "GET", Path: "/v1/account", Token: device.Token} }},
	} {
		if n := allowed(t, relay, relay.HTTP(), c.make); n != c.want {
			t.Errorf("%s: %d were let through, want %d", c.what, n, c.want)
		}
	}
	// An upgrade by bearer token counts like a ticket.
	if _, status := relay.Dial(t, "", http.Header{"Authorization": {"Bearer " + device.Token}}); status != 429 {
		t.Errorf("the upgrade got %d", status)
	}
}

func TestALimitComesBackWithTime(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t, rates, func(c *app.Config) {
		c.Limits["log-in"] = limit.Rate{Events: 1, Per: 300 * time.Millisecond}
	})
	nobody(0).To(t, relay).Want(t, 401, "wrong_credentials")
	wait.Eventually(t, "another log-in is let through", func() bool {
		return nobody(1).To(t, relay).Status == 401
	})
}

func TestRateLimitsCanBeOff(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t, rates, func(c *app.Config) { c.RateLimits = "off" })
	if n := allowed(t, relay, relay.HTTP(), nobody); n != 6 {
		t.Errorf("%d were let through", n)
	}
	// Size limits stay.
	e2e.Ask{Method: "POST", Path: "/v1/users", Body: `{"username":"` + string(make([]byte, 600<<10)) + `"}`}.To(t,
		relay).Want(t, 413, "body_too_large")
}

// TestAConnectionThatAsksTooOftenIsClosed holds connections open, as who wants all descriptors
// does. Those of a trusted proxy carry many clients and stay.
func TestAConnectionThatAsksTooOftenIsClosed(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		trusted []netip.Prefix
		closed  bool
	}{"a client's": {nil, true}, "a proxy's": {[]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, false}} {
		relay := relaytest.Start(t, e2e.Limits(2, "documents"), func(cfg *app.Config) { cfg.TrustedProxies = c.trusted })
		conn, err := net.Dial("tcp", strings.TrimPrefix(relay.API, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		answers := bufio.NewReader(conn)
		for n := range 4 {
			if _, err := conn.Write([]byte("GET /v1/info HTTP/1.1\r\nHost: x\r\n\r\n")); err != nil {
				t.Fatalf("%s: request %d: %v", what, n, err)
			}
			answer, err := http.ReadResponse(answers, nil)
			if err != nil {
				t.Fatalf("%s: answer %d: %v", what, n, err)
			}
			_, _ = io.Copy(io.Discard, answer.Body)
			_ = answer.Body.Close()
			limited := answer.StatusCode == http.StatusTooManyRequests
			if limited != (n >= 2) || answer.Close != (limited && c.closed) {
				t.Errorf("%s: answer %d is %d, closes: %v", what, n, answer.StatusCode, answer.Close)
			}
			if answer.Close {
				break
			}
		}
		if c.closed {
			if _, err := answers.ReadByte(); !errors.Is(err, io.EOF) {
				t.Errorf("%s: the connection is open: %v", what, err)
			}
		}
	}
}

// forwarded is a log-in that claims to come from somewhere.
func forwarded(claim string) func(int) e2e.Ask {
	return func(i int) e2e.Ask {
		a := nobody(i)
		a.Header = map[string]string{"X-Forwarded-For": strings.ReplaceAll(claim, "#", strconv.Itoa(i))}
		return a
	}
}

func TestAnAddressIsTheSocketsUnlessAProxyIsTrusted(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t, rates)
	one, two := e2e.From(t, "127.0.0.2"), e2e.From(t, "127.0.0.3")
	if n := allowed(t, relay, one, forwarded("192.0.2.#")); n != 3 {
		t.Errorf("a client that nobody trusts made up addresses: %d", n)
	}
	if n := allowed(t, relay, two, forwarded("192.0.2.1")); n != 3 {
		t.Errorf("one address is limited by what another did: %d", n)
	}
}

func TestATrustedProxySaysWhereARequestComesFrom(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t, rates, func(c *app.Config) {
		c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.1.0/24"),
			netip.MustParsePrefix("2001:db8:ffff::/48")}
	})
	proxy, outsider := e2e.From(t, "127.0.1.1"), e2e.From(t, "127.0.0.1")
	for _, c := range []struct {
		what   string
		client *http.Client
		make   func(int) e2e.Ask
		want   int
	}{
		{"each client has its own", proxy, forwarded("192.0.2.#"), 6},
		{"one client", proxy, forwarded("198.51.100.1"), 3},
		{"one client in front of two proxies", proxy, forwarded("198.51.100.2, 127.0.1.#"), 3},
		{"made up by the client, before the proxy's own", proxy, forwarded("192.0.3.#, 198.51.100.3"), 3},
		{"made up as a trusted address", proxy, forwarded("127.0.1.#, 198.51.100.4"), 3},
		{"made up from outside", outsider, forwarded("192.0.4.#"), 3},
		{"mapped IPv4 is IPv4", proxy, forwarded("::ffff:198.51.100.1"), 0},
		{"IPv6 of one /64", proxy, forwarded("2001:db8:1:1:#::1"), 3},
		{"IPv6 of other /64s", proxy, forwarded("2001:db8:2:#::1"), 6},
		{"IPv6 through an IPv6 proxy", proxy, forwarded("2001:db8:3:3::#, 2001:db8:ffff::1"), 3},
		{"garbage counts for the proxy", proxy, forwarded("garbage#"), 3},
		{"garbage before an address", proxy, forwarded("garbage#, 198.51.100.5"), 3},
		{"an address with a port is that address", proxy, forwarded("192.0.5.#:80"), 6},
		{"another port of one address", proxy, forwarded("198.51.100.6:8#"), 3},
	} {
		if n := allowed(t, relay, c.client, c.make); n != c.want {
			t.Errorf("%s: %d were let through, want %d", c.what, n, c.want)
		}
	}
}
