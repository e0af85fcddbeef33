package tls_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/obscura-relay/obscura/internal/app"
	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

// A proxy and a client that are no proxy.
const (
	proxy    = "127.0.1.1"
	stranger = "127.0.2.1"
)

func trusting(c *app.Config) {
	c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.1.0/24")}
}

// version1 and version2 write headers as the specification has them, by hand: the proxies that are
// tried in internal/kit/e2e/edge write them for themselves.
func version1(client string) string {
	family := "TCP4"
	if strings.Contains(client, ":") {
		family = "TCP6"
	}
	return "PROXY " + family + " " + client + " " + client + " 56324 443\r\n"
}

func version2(client string, options int) string {
	address := netip.MustParseAddr(client)
	family, body := byte(0x11), append(address.AsSlice(), address.AsSlice()...)
	if address.Is6() {
		family = 0x21
	}
	body = binary.BigEndian.AppendUint16(body, 56324)
	body = binary.BigEndian.AppendUint16(body, 443)
	if options > 0 {
		body = append(body, 0x04) // PP2_TYPE_NOOP
		body = binary.BigEndian.AppendUint16(body, uint16(options))
		body = append(body, make([]byte, options)...)
	}
	header := append([]byte("\r\n\r\n\x00\r\nQUIT\n\x21"), family)
	header = binary.BigEndian.AppendUint16(header, uint16(len(body)))
	return string(append(header, body...))
}

// tries logs in on a connection of its own, and returns the status; 0 without an answer.
func tries(t *testing.T, relay *relaytest.Relay, from, header string) int {
	t.Helper()
	w := e2e.DialWireFrom(t, relay, from, header)
	defer func() { _ = w.Close() }()
	// Another name each time: guesses at one are limited wherever they come from.
	logIn := fmt.Sprintf(`{"username":"nobody_%d","password":"not the password of anybody"}`, time.Now().UnixNano())
	_, err := fmt.Fprintf(w, "POST /v1/sessions HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 203.0.113.%d\r\n"+
		"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", time.Now().UnixNano()%250, len(logIn), logIn)
	if err != nil {
		return 0
	}
	line, _, err := w.Reader.ReadLine()
	if err != nil {
		return 0
	}
	status, _ := strconv.Atoi(string(bytes.Fields(line)[1]))
	return status
}

func TestAProxyHeaderSaysWhereAConnectionComesFrom(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*app.Config){"TLS": secure(t), "plain": func(*app.Config) {}} {
		relay := relaytest.Start(t, change, trusting, e2e.Limits(2, "log-in"))
		for i, header := range []func(client string) string{version1,
			func(client string) string { return version2(client, 0) },
			func(client string) string { return version2(client, 3000) }} {
			for _, client := range []string{fmt.Sprintf("198.51.100.%d", i), fmt.Sprintf("2001:db8:%d::1", i)} {
				for j, want := range []int{401, 401, 429} {
					if got := tries(t, relay, proxy, header(client)); got != want {
						t.Errorf("%s, header %d, %s, log-in %d: %d, want %d", name, i, client, j, got, want)
					}
				}
			}
		}
		// The proxy's own checks, and what it sends for connections that it knows nothing of, come
		// from the proxy, whatever X-Forwarded-For says: that is another address each time.
		for i, header := range []string{"PROXY UNKNOWN\r\n", "PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n",
			"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"} {
			for j, want := range []int{401, 401, 429} {
				if got := tries(t, relay, fmt.Sprintf("127.0.1.%d", 9+i), header); got != want {
					t.Errorf("%s: %q, log-in %d: %d, want %d", name, header, j, got, want)
				}
			}
		}
		// What a proxy says of a connection of its own is passed over.
		if got := tries(t, relay, "127.0.1.20", "\r\n\r\n\x00\r\nQUIT\n\x20\x31\x00\xd8"+strings.Repeat("x", 216)); got != 401 {
			t.Errorf("%s: LOCAL of UNIX is answered %d", name, got)
		}
		// Without a header it is a proxy that speaks HTTP.
		for range 3 {
			if got := tries(t, relay, "127.0.1.9", ""); got != 401 {
				t.Errorf("%s: no header is answered %d", name, got)
			}
		}
	}
}

func TestAProxyHeaderOfAStrangerIsRefused(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*app.Config){"TLS": secure(t), "plain": func(*app.Config) {}} {
		want := map[string]int{"TLS": 0, "plain": 400}[name]
		relay := relaytest.Start(t, change, trusting)
		for _, header := range []string{version1("198.51.100.1"), version2("198.51.100.1", 0)} {
			if got := tries(t, relay, stranger, header); got != want {
				t.Errorf("%s: a stranger's %q is answered %d, want %d", name, header, got, want)
			}
		}
		// Those that a proxy should not have sent end its connection.
		for _, header := range []string{"PROXY TCP4 198.51.100.1 198.51.100.1 1\r\n", "PROXY TCP4 x y 1 2\r\n",
			"PROXY " + strings.Repeat("x", 200) + "\r\n", version1("198.51.100.1") + version1("198.51.100.2"),
			"\r\n\r\n\x00\r\nQUIT\n\x21\x00\x00\x00", version2("198.51.100.1", 5000),
			"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x02xx",
			// of UDP, of UNIX, and of nothing
			"\r\n\r\n\x00\r\nQUIT\n\x21\x12\x00\x0cxxxxxxxxxxxx",
			"\r\n\r\n\x00\r\nQUIT\n\x21\x22\x00\x24" + strings.Repeat("x", 36),
			"\r\n\r\n\x00\r\nQUIT\n\x21\x31\x00\xd8" + strings.Repeat("x", 216),
			"\r\n\r\n\x00\r\nQUIT\n\x21\x32\x00\xd8" + strings.Repeat("x", 216),
			"\r\n\r\n\x00\r\nQUIT\n\x21\x00\x00\x00", "\r\n\r\n\x00\r\nQUIT\n\x51\x11\x00\x0cxxxxxxxxxxxx"} {
			if got := tries(t, relay, proxy, header); got != 0 && got != 400 {
				t.Errorf("%s: a proxy's %q is answered %d", name, header, got)
			}
		}
		if got := tries(t, relay, proxy, version1("198.51.100.9")); got != 401 {
			t.Errorf("%s: afterwards %d", name, got)
		}
	}
}

// A header has as long as the request that it stands before.
func TestAProxyHeaderIsBoundedInTime(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t, trusting, func(c *app.Config) { c.ReadTimeout = time.Second })
	for _, begin := range []string{"", version2("198.51.100.1", 1000)[:100]} {
		w := e2e.DialWireFrom(t, relay, proxy, begin)
		begun := time.Now()
		_, _ = io.Copy(io.Discard, w)
		if took := time.Since(begun); took < 500*time.Millisecond || took > 5*time.Second {
			t.Errorf("after %d bytes it was closed in %v", len(begin), took)
		}
	}
	// Others are accepted meanwhile.
	silent, err := net.Dial("tcp", strings.TrimPrefix(relay.API, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	e2e.Ask{Method: "GET", Path: "/v1/info"}.To(t, relay).Want(t, 200, "")
}
