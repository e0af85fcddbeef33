package app_test

import (
	"bytes"
	"compress/gzip"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/internal/app"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

func TestEveryErrorHasTheSameShape(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	device := relay.Register(t).NewDevice(t)
	credentials := object("username", "somebody", "password", relaytest.Password)
	for _, c := range []struct {
		name   string
		ask    ask
		status int
		code   string
	}{
		{"unknown path", ask{method: "GET", path: "/v1/nothing"}, 404, "not_found"},
		{"method of the page at /", ask{method: "POST", path: "/"}, 405, "method_not_allowed"},
		{"upper case path", ask{method: "POST", path: "/V1/users", body: credentials}, 404, "not_found"},
		{"escaped path", ask{method: "GET", path: "/v1/%2e%2e/%00"}, 404, "not_found"},
		{"method that HTTP does not know", ask{method: "FROB", path: "/v1/account", token: device.Token}, 405, "method_not_allowed"},
		{"unknown method", ask{method: "PATCH", path: "/v1/account", token: device.Token}, 405, "method_not_allowed"},
		{"method of another path", ask{method: "GET", path: "/v1/messages"}, 405, "method_not_allowed"},
		{"method of a path with a parameter", ask{method: "DELETE", path: "/v1/devices/keys", token: device.Token}, 405, "method_not_allowed"},
		{"bytes that are no UTF-8", ask{method: "POST", path: "/v1/users", body: "{\"username\": \"somebody\", \"password\": \"a long password \xff\"}"}, 400, "invalid_json"},
		{"half a UTF-16 pair", ask{method: "POST", path: "/v1/users", body: `{"username": "somebody", "password": "a long password \udfff"}`}, 400, "invalid_json"},
		{"many small JSON values", ask{method: "POST", path: "/v1/users", body: `{"q":[` + strings.Repeat(`{"":{}},`, 5000) + `{}]}`}, 413, "body_too_large"},
		{"many empty submissions", ask{method: "POST", path: "/v1/messages", token: device.Token, media: "application/x-protobuf",
			body: strings.Repeat("\x0a\x00", 1<<20)}, 413, "too_many_submissions"},
		{"bad JSON", ask{method: "POST", path: "/v1/users", body: "{"}, 400, "invalid_json"},
		{"bad UUID in a path", ask{method: "GET", path: "/v1/devices/x", token: device.Token}, 400, "invalid_request"},
		{"UUID in braces", ask{method: "GET", path: "/v1/users/%7B" + uuid.NewString() + "%7D", token: device.Token}, 400, "invalid_request"},
		{"UUID without dashes", ask{method: "GET", path: "/v1/users/" + strings.ReplaceAll(uuid.NewString(), "-", ""), token: device.Token}, 400, "invalid_request"},
		{"UUID as a URN", ask{method: "GET", path: "/v1/devices/urn:uuid:" + uuid.NewString(), token: device.Token}, 400, "invalid_request"},
		{"UUID in braces in a header", ask{method: "POST", path: "/v1/messages", token: device.Token, media: "application/x-protobuf",
			header: map[string]string{"Idempotency-Key": "{" + uuid.NewString() + "}"}}, 400, "invalid_request"},
		{"slash at the end", ask{method: "GET", path: "/v1/devices/", token: device.Token}, 404, "not_found"},
		{"long ticket", ask{method: "GET", path: "/v1/gateway?ticket=" + strings.Repeat("x", 300), header: upgrade}, 401, "invalid_ticket"},
		{"bad UUID in a header", ask{method: "POST", path: "/v1/messages", token: device.Token, media: "application/x-protobuf",
			header: map[string]string{"Idempotency-Key": "x"}}, 400, "invalid_request"},
		{"an empty idempotency key", ask{method: "POST", path: "/v1/messages", token: device.Token, media: "application/x-protobuf",
			header: map[string]string{"Idempotency-Key": ""}}, 400, "invalid_request"},
		{"no token", ask{method: "GET", path: "/v1/account"}, 401, "unauthorized"},
		{"other scheme", ask{method: "GET", path: "/v1/account", header: map[string]string{"Authorization": "Basic " + device.Token}}, 401, "unauthorized"},
		{"garbage token", ask{method: "GET", path: "/v1/account", token: "a.b.c"}, 401, "unauthorized"},
		{"bad ticket", ask{method: "GET", path: "/v1/gateway?ticket=x", header: upgrade}, 401, "invalid_ticket"},
		{"empty ticket", ask{method: "GET", path: "/v1/gateway?ticket=", header: upgrade}, 401, "invalid_ticket"},
		{"no ticket and no token", ask{method: "GET", path: "/v1/gateway", header: upgrade}, 401, "unauthorized"},
		{"UUID of zeros", ask{method: "GET", path: "/v1/devices/" + uuid.Nil.String(), token: device.Token}, 404, "device_not_found"},
		{"media type of a form", ask{method: "POST", path: "/v1/users", media: "application/x-www-form-urlencoded",
			body: "username=somebody&password=" + strings.ReplaceAll(relaytest.Password, " ", "+")}, 415, "unsupported_media_type"},
		{"media type of XML", ask{method: "POST", path: "/v1/users", media: "application/xml",
			body: "<c><username>somebody</username></c>"}, 415, "unsupported_media_type"},
		{"media type of a multipart form", ask{method: "POST", path: "/v1/users", media: "multipart/form-data; boundary=b",
			body: "--b\r\nContent-Disposition: form-data; name=\"username\"\r\n\r\nx\r\n--b--\r\n"}, 415, "unsupported_media_type"},
		{"no media type", ask{method: "POST", path: "/v1/users", media: "-", body: credentials}, 415, "unsupported_media_type"},
		{"JSON as protobuf", ask{method: "POST", path: "/v1/messages", token: device.Token, body: "{}"}, 415, "unsupported_media_type"},
		{"protobuf as JSON", ask{method: "POST", path: "/v1/users", media: "application/x-protobuf", body: credentials}, 415, "unsupported_media_type"},
		{"content coding", ask{method: "POST", path: "/v1/users", body: gzipped(t, credentials), header: map[string]string{"Content-Encoding": "gzip"}}, 415, "unsupported_media_type"},
		{"no upgrade", ask{method: "GET", path: "/v1/gateway?ticket=x"}, 426, "upgrade_required"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got := c.ask.to(t, relay).want(t, c.status, c.code)
			if !strings.HasSuffix(got.sentence, ".") || !strings.Contains(got.sentence, " ") {
				t.Errorf("not a sentence: %q", got.sentence)
			}
			if media := got.header.Get("Content-Type"); media != "application/json" {
				t.Errorf("Content-Type %q", media)
			}
		})
	}
}

var upgrade = map[string]string{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
	"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}

func gzipped(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestHEADIsNoMethodOfTheContract(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	for _, path := range append([]string{"/v1/account", "/v1/users/" + uuid.NewString(), "/v1/gateway"}, public...) {
		got := ask{method: "HEAD", path: path}.to(t, relay)
		if got.status != 405 || strings.Contains(got.header.Get("Allow"), "HEAD") || len(got.body) != 0 {
			t.Errorf("%s: status %d, Allow %q", path, got.status, got.header.Get("Allow"))
		}
	}
}

func TestARefusedMethodNamesTheAllowedOnes(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	for path, want := range map[string]string{
		"/v1/users": "POST", "/v1/sessions": "POST, DELETE", "/v1/sessions/refresh": "POST", "/v1/account": "GET, DELETE",
		"/v1/account/password": "PUT", "/v1/devices": "GET, POST", "/v1/devices/keys": "GET, POST",
		"/v1/messages": "POST", "/v1/gateway/ticket": "POST", "/v1/gateway": "GET", "/openapi.yaml": "GET",
		"/openapi.json": "GET", "/obscura.proto": "GET", "/": "GET", "/docs": "GET", "/docs/page.js": "GET",
		"/v1/users/" + uuid.NewString(): "GET", "/v1/devices/" + uuid.NewString(): "GET, PUT, DELETE",
	} {
		for _, method := range []string{"PATCH", "TRACE", "OPTIONS", "QUERY"} {
			got := ask{method: method, path: path}.to(t, relay).want(t, 405, "method_not_allowed")
			allowed := map[string]bool{}
			for name := range strings.SplitSeq(got.header.Get("Allow"), ",") {
				allowed[strings.TrimSpace(name)] = true
			}
			for name := range strings.SplitSeq(want, ", ") {
				if !allowed[name] {
					t.Errorf("%s %s: Allow %q lacks %s", method, path, got.header.Get("Allow"), name)
				}
				delete(allowed, name)
			}
			if len(allowed) != 0 {
				t.Errorf("%s %s: Allow names too much: %v", method, path, allowed)
			}
		}
	}
}

func TestARequestThatCannotBeReadIsAnswered(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t, func(c *app.Config) { c.ReadTimeout = 300 * time.Millisecond })
	long := strings.Repeat("a", 20_000)
	const head = "POST /v1/users HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
	for _, c := range []struct {
		name, request string
		status        int
		code          string
	}{
		{"half a body and silence", head + "Content-Length: 100\r\n\r\n{\"username\":", 408, "request_timeout"},
		{"half a header and silence", head, 408, "request_timeout"},
		{"half a request line and silence", "POST /v1/us", 408, "request_timeout"},
		{"a header of 20 kB", "GET /v1/account HTTP/1.1\r\nHost: x\r\nX-Long: " + long + "\r\n\r\n", 431, "headers_too_large"},
		{"a path of 20 kB", "GET /" + long + " HTTP/1.1\r\nHost: x\r\n\r\n", 431, "headers_too_large"},
		{"a body above the limit, announced", head + "Content-Length: 10485760\r\n\r\n", 413, "body_too_large"},
		{"a body above the limit, in chunks", head + "Transfer-Encoding: chunked\r\n\r\n300000\r\n" +
			strings.Repeat("a", 0x300000) + "\r\n0\r\n\r\n", 413, "body_too_large"},
		{"garbage", "\x16\x03\x01 hello\r\n\r\n", 400, "invalid_request"},
		{"two lengths", head + "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 400, "invalid_request"},
		{"length and chunks", head + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "invalid_json"},
		{"a negative length", head + "Content-Length: -1\r\n\r\n", 400, "invalid_request"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := dialWire(t, relay)
			go func() { _, _ = w.Write([]byte(c.request)) }() // the relay may answer before it has taken all
			got := w.reply().want(t, c.status, c.code)
			if uuid.Validate(got.header.Get("X-Request-Id")) != nil || got.sentence == "" || got.header.Get("Content-Type") != "application/json" {
				t.Errorf("not the shape of errors: %v %s", got.header, got.body)
			}
			if !w.ended() {
				t.Error("the connection stays open")
			}
		})
	}
}

// Cookies of a shared domain and a proxy's own headers may be large.
func TestAHeaderOfFifteenKibibytesIsTaken(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	device := relay.Register(t).NewDevice(t)
	ask{method: "GET", path: "/v1/devices", token: device.Token, header: map[string]string{"Cookie": "a=" + strings.Repeat("x", 15<<10)}}.to(t, relay).want(t, 200, "")
}

func TestABodyOfTenMebibytesIsRefusedAndTheClientHearsIt(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	body := `{"username":"` + strings.Repeat("a", 10<<20) + `"}`
	for range 5 { // a client that writes on must not lose the answer to a reset
		ask{method: "POST", path: "/v1/users", body: body}.to(t, relay).want(t, http.StatusRequestEntityTooLarge, "body_too_large")
	}
	// Between the limit of JSON bodies and that of all.
	ask{method: "POST", path: "/v1/users", body: body[:600<<10]}.to(t, relay).want(t, http.StatusRequestEntityTooLarge, "body_too_large")
}

func TestARequestIDIsTheClientsOwnOrAFreshOne(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	own := strings.ToUpper(uuid.NewString())
	for _, path := range []string{"/openapi.yaml", "/v1/account", "/v1/nothing"} {
		got := ask{method: "GET", path: path, header: map[string]string{"X-Request-Id": own}}.to(t, relay).header.Get("X-Request-Id")
		if got != own {
			t.Errorf("%s: %q, want the client's own", path, got)
		}
		seen := map[string]bool{}
		for _, sent := range []string{"", "x", "{" + own + "}", "urn:uuid:" + own, strings.ReplaceAll(own, "-", ""), own + own, strings.Repeat("z", 36)} {
			got := ask{method: "GET", path: path, header: map[string]string{"X-Request-Id": sent}}.to(t, relay).header.Get("X-Request-Id")
			if uuid.Validate(got) != nil || got == own || seen[got] {
				t.Errorf("%s: %q for %q, want a fresh UUID", path, got, sent)
			}
			seen[got] = true
		}
	}
}
