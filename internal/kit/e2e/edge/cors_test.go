package edge_test

import (
	"strings"
	"testing"

	"github.com/obscura-relay/obscura/internal/app"
	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

func preflight(origin, method, headers string) e2e.Ask {
	return e2e.Ask{Method: "OPTIONS", Path: "/v1/messages", Header: map[string]string{
		"Origin": origin, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": headers}}
}

func TestAnAllowedOriginMayCallFromABrowser(t *testing.T) {
	t.Parallel()
	const origin = "https://chat.example.org"
	relay := relaytest.Start(t, func(c *app.Config) { c.CORSOrigins = []string{"http://localhost:5173", origin} })
	got := preflight(origin, "POST", "authorization,content-type,idempotency-key").To(t, relay).Want(t, 204, "")
	if got.Header.Get("Access-Control-Allow-Origin") != origin ||
		got.Header.Get("Access-Control-Allow-Credentials") != "" ||
		got.Header.Get("Access-Control-Max-Age") != "600" || !strings.Contains(got.Header.Get("Vary"), "Origin") {
		t.Errorf("headers %v", got.Header)
	}
	for name, list := range map[string]string{
		"Access-Control-Allow-Methods": "GET POST PUT DELETE HEAD",
		"Access-Control-Allow-Headers": "authorization content-type idempotency-key x-request-id if-match if-none-match",
	} {
		for want := range strings.FieldsSeq(list) {
			if !strings.Contains(strings.ToLower(","+got.Header.Get(name)+","), ","+strings.ToLower(want)+",") {
				t.Errorf("%s lacks %s", name, want)
			}
		}
	}
	// The answer itself, also when it is an error: a page must be able to read why.
	for _, a := range []e2e.Ask{{Method: "GET", Path: "/openapi.yaml"}, {Method: "GET", Path: "/v1/account"},
		{Method: "GET", Path: "/v1/nothing"},
		{Method: "PATCH", Path: "/v1/users"}, {Method: "POST", Path: "/v1/users", Body: "{"}} {
		a.Header = map[string]string{"Origin": origin}
		got := a.To(t, relay)
		if got.Header.Get("Access-Control-Allow-Origin") != origin ||
			!strings.Contains(got.Header.Get("Access-Control-Expose-Headers"), "X-Request-Id") ||
			!strings.Contains(got.Header.Get("Access-Control-Expose-Headers"), "Retry-After") {
			t.Errorf("%s %s: headers %v", a.Method, a.Path, got.Header)
		}
	}
}

func TestAnotherOriginIsNotAllowed(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t, func(c *app.Config) { c.CORSOrigins = []string{"https://chat.example.org"} })
	for _, origin := range []string{"https://evil.example", "http://chat.example.org",
		"https://chat.example.org.evil.example",
		"https://chat.example.org:8443", "https://sub.chat.example.org", "null", "*", "https://chat.example.org/"} {
		for _, a := range []e2e.Ask{preflight(origin, "POST", "authorization"),
			{Method: "GET", Path: "/openapi.yaml", Header: map[string]string{"Origin": origin}}} {
			got := a.To(t, relay)
			if allow := got.Header.Get("Access-Control-Allow-Origin"); allow != "" {
				t.Errorf("%q got %q", origin, allow)
			}
		}
	}
	// Without an Origin it is no browser, and served.
	e2e.Ask{Method: "GET", Path: "/openapi.yaml"}.To(t, relay).Want(t, 200, "")
}

func TestAnyOriginMayBeAllowed(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t, func(c *app.Config) { c.CORSOrigins = []string{"*"} })
	got := preflight("https://anything.example", "PUT", "authorization").To(t, relay).Want(t, 204, "")
	if got.Header.Get("Access-Control-Allow-Origin") != "*" ||
		got.Header.Get("Access-Control-Allow-Credentials") != "" {
		t.Errorf("headers %v", got.Header)
	}
}

func TestWithoutOriginsThereIsNoCORS(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	got := preflight("https://chat.example.org", "POST", "authorization").To(t, relay).Want(t, 405,
		"method_not_allowed")
	for name := range got.Header {
		if strings.HasPrefix(name, "Access-Control") {
			t.Errorf("header %s", name)
		}
	}
}

func TestAPageHearsWhyItsRequestCouldNotBeRead(t *testing.T) {
	t.Parallel()
	const origin = "https://chat.example.org"
	some := relaytest.Start(t, func(c *app.Config) { c.CORSOrigins = []string{"http://localhost:5173", origin} })
	all := relaytest.Start(t, func(c *app.Config) { c.CORSOrigins = []string{"*"} })
	none := relaytest.Start(t)
	chunk := "POST /v1/users HTTP/1.1\r\nHost: h\r\nOrigin: #\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\n"
	for name, c := range map[string]struct {
		relay                *relaytest.Relay
		request, from, allow string
		status               int
	}{
		"a body that grows too large": {some, chunk, origin, "*", 413},
		"any page":                    {all, chunk, "https://evil.example", "*", 413},
		"no page":                     {none, chunk, origin, "", 413},
		"a header that is too large": {some, "GET / HTTP/1.1\r\nOrigin: #\r\nX-Long: " + strings.Repeat("a",
			40_000) + "\r\n\r\n", origin, "*", 431},
		"a header that is no header": {some, "GET / HTTP/1.1\r\nOrigin: #\r\nno colon\r\n\r\n", origin, "*", 400},
		"a header that is too large, off": {none, "GET / HTTP/1.1\r\nOrigin: #\r\nX-Long: " + strings.Repeat("a",
			40_000) + "\r\n\r\n", origin, "", 431},
	} {
		w := e2e.DialWire(t, c.relay)
		w.Send(strings.Replace(c.request, "#", c.from, 1))
		got := w.Reply()
		exposed := strings.Contains(got.Header.Get("Access-Control-Expose-Headers"), "X-Request-Id")
		if got.Status != c.status || got.Header.Get("Access-Control-Allow-Origin") != c.allow ||
			exposed != (c.allow != "") {
			t.Errorf("%s: status %d, headers %v", name, got.Status, got.Header)
		}
	}
}
