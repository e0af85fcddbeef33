package edge_test

import (
	"bytes"
	"compress/gzip"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/internal/app"
	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

func TestEveryErrorHasTheSameShape(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	device := relay.Register(t).NewDevice(t)
	credentials := e2e.Object("username", "somebody", "password", relaytest.Password)
	for _, c := range []struct {
		name   string
		ask    e2e.Ask
		status int
		code   string
	}{
		{"unknown path", e2e.Ask{Method: "GET", Path: "/v1/nothing"}, 404, "not_found"},
		{"method of the page at /", e2e.Ask{Method: "POST", Path: "/"}, 405, "method_not_allowed"},
		{"upper case path", e2e.Ask{Method: "POST", Path: "/V1/users", Body: credentials}, 404, "not_found"},
		{"escaped path", e2e.Ask{Method: "GET", Path: "/v1/%2e%2e/%00"}, 404, "not_found"},
		{"method that HTTP does not know", e2e.Ask{Method: "FROB", Path: "/v1/account", Token: device.Token}, 405,
			"method_not_allowed"},
		{"unknown method", e2e.Ask{Method: "PATCH", Path: "/v1/account", Token: device.Token}, 405,
			"method_not_allowed"},
		{"method of another path", e2e.Ask{Method: "GET", Path: "/v1/messages"}, 405, "method_not_allowed"},
		{"method of a path with a parameter", e2e.Ask{Method: "DELETE", Path: "/v1/devices/keys", Token: device.Token},
			405, "method_not_allowed"},
		{"bytes that are no UTF-8",
			e2e.Ask{Method: "POST", Path: "/v1/users",
				Body: "{\"username\": \"somebody\", \"password\": \"a long password \xff\"}"}, 400, "invalid_json"},
		{"half a UTF-16 pair",
			e2e.Ask{Method: "POST", Path: "/v1/users",
				Body: `{"username": "somebody", "password": "a long password \udfff"}`}, 400, "invalid_json"},
		{"many small JSON values",
			e2e.Ask{Method: "POST", Path: "/v1/users", Body: `{"q":[` + strings.Repeat(`{"":{}},`, 5000) + `{}]}`}, 413,
			"body_too_large"},
		{"many empty submissions", e2e.Ask{Method: "POST", Path: "/v1/messages", Token: device.Token,
			Media: "application/x-protobuf",
			Body:  strings.Repeat("\x0a\x00", 1<<20)}, 413, "too_many_submissions"},
		{"bad JSON", e2e.Ask{Method: "POST", Path: "/v1/users", Body: "{"}, 400, "invalid_json"},
		{"bad UUID in a path", e2e.Ask{Method: "GET", Path: "/v1/devices/x", Token: device.Token}, 400,
			"invalid_request"},
		{"UUID in braces", e2e.Ask{Method: "GET", Path: "/v1/users/%7B" + uuid.NewString() + "%7D",
			Token: device.Token}, 400, "invalid_request"},
		{"UUID without dashes",
			e2e.Ask{Method: "GET", Path: "/v1/users/" + strings.ReplaceAll(uuid.NewString(), "-", ""),
				Token: device.Token}, 400, "invalid_request"},
		{"UUID as a URN", e2e.Ask{Method: "GET", Path: "/v1/devices/urn:uuid:" + uuid.NewString(), Token: device.Token},
			400, "invalid_request"},
		{"UUID in braces in a header", e2e.Ask{Method: "POST", Path: "/v1/messages", Token: device.Token,
			Media:  "application/x-protobuf",
			Header: map[string]string{"Idempotency-Key": "{" + uuid.NewString() + "}"}}, 400, "invalid_request"},
		{"slash at the end", e2e.Ask{Method: "GET", Path: "/v1/devices/", Token: device.Token}, 404, "not_found"},
		{"long ticket", e2e.Ask{Method: "GET", Path: "/v1/gateway?ticket=" + strings.Repeat("x", 300),
			Header: e2e.Upgrade}, 401, "invalid_ticket"},
		{"bad UUID in a header", e2e.Ask{Method: "POST", Path: "/v1/messages", Token: device.Token,
			Media:  "application/x-protobuf",
			Header: map[string]string{"Idempotency-Key": "x"}}, 400, "invalid_request"},
		{"an empty idempotency key", e2e.Ask{Method: "POST", Path: "/v1/messages", Token: device.Token,
			Media:  "application/x-protobuf",
			Header: map[string]string{"Idempotency-Key": ""}}, 400, "invalid_request"},
		{"no token", e2e.Ask{Method: "GET", Path: "/v1/account"}, 401, "unauthorized"},
		{"other scheme", e2e.Ask{Method: "GET", Path: "/v1/account",
			Header: map[string]string{"Authorization": "Basic " + device.Token}}, 401, "unauthorized"},
		{"garbage token", e2e.Ask{Method: "GET", Path: "/v1/account", Token: "a.b.c"}, 401, "unauthorized"},
		{"bad ticket", e2e.Ask{Method: "GET", Path: "/v1/gateway?ticket=x", Header: e2e.Upgrade}, 401,
			"invalid_ticket"},
		{"empty ticket", e2e.Ask{Method: "GET", Path: "/v1/gateway?ticket=", Header: e2e.Upgrade}, 401,
			"invalid_ticket"},
		{"no ticket and no token", e2e.Ask{Method: "GET", Path: "/v1/gateway", Header: e2e.Upgrade}, 401,
			"unauthorized"},
		{"UUID of zeros", e2e.Ask{Method: "GET", Path: "/v1/devices/" + uuid.Nil.String(), Token: device.Token}, 404,
			"device_not_found"},
		{"media type of a form", e2e.Ask{Method: "POST", Path: "/v1/users", Media: "application/x-www-form-urlencoded",
			Body: "username=somebody&password=" + strings.ReplaceAll(relaytest.Password, " ", "+")}, 415,
			"unsupported_media_type"},
		{"media type of XML", e2e.Ask{Method: "POST", Path: "/v1/users", Media: "application/xml",
			Body: "<c><username>somebody</username></c>"}, 415, "unsupported_media_type"},
		{"media type of a multipart form",
			e2e.Ask{Method: "POST", Path: "/v1/users", Media: "multipart/form-data; boundary=b",
				Body: "--b\r\nContent-Disposition: form-data; name=\"username\"\r\n\r\nx\r\n--b--\r\n"}, 415,
			"unsupported_media_type"},
		{"no media type", e2e.Ask{Method: "POST", Path: "/v1/users", Media: "-", Body: credentials}, 415,
			"unsupported_media_type"},
		{"JSON as protobuf", e2e.Ask{Method: "POST", Path: "/v1/messages", Token: device.Token, Body: "{}"}, 415,
			"unsupported_media_type"},
		{"protobuf as JSON", e2e.Ask{Method: "POST", Path: "/v1/users", Media: "application/x-protobuf",
			Body: credentials}, 415, "unsupported_media_type"},
		{"content coding", e2e.Ask{Method: "POST", Path: "/v1/users", Body: gzipped(t, credentials),
			Header: map[string]string{"Content-Encoding": "gzip"}}, 415, "unsupported_media_type"},
		{"no upgrade", e2e.Ask{Method: "GET", Path: "/v1/gateway?ticket=x"}, 426, "upgrade_required"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got := c.ask.To(t, relay).Want(t, c.status, c.code)
			if !strings.HasSuffix(got.Sentence, ".") || !strings.Contains(got.Sentence, " ") {
				t.Errorf("not a sentence: %q", got.Sentence)
			}
			if media := got.Header.Get("Content-Type"); media != "application/json" {
				t.Errorf("Content-Type %q", media)
			}
		})
	}
}

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
		got := e2e.Ask{Method: "HEAD", Path: path}.To(t, relay)
		if got.Status != 405 || strings.Contains(got.Header.Get("Allow"), "HEAD") || len(got.Body) != 0 {
			t.Errorf("%s: status %d, Allow %q", path, got.Status, got.Header.Get("Allow"))
		}
	}
}

func TestARefusedMethodNamesTheAllowedOnes(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	for path, want := range map[string]string{
		"/v1/users": "POST", "/v1/sessions": "POST, DELETE", "/v1/sessions/refresh": "POST",
		"/v1/account":          "GET, DELETE",
		"/v1/account/password": "PUT", "/v1/devices": "GET, POST", "/v1/devices/keys": "GET, POST",
		"/v1/messages": "POST", "/v1/gateway/ticket": "POST", "/v1/gateway": "GET", "/openapi.yaml": "GET",
		"/openapi.json": "GET", "/obscura.proto": "GET", "/": "GET", "/docs": "GET", "/docs/page.js": "GET",
		"/v1/users/" + uuid.NewString(): "GET", "/v1/devices/" + uuid.NewString(): "GET, PUT, DELETE",
	} {
		for _, method := range []string{"PATCH", "TRACE", "OPTIONS", "QUERY"} {
			got := e2e.Ask{Method: method, Path: path}.To(t, relay).Want(t, 405, "method_not_allowed")
			allowed := map[string]bool{}
			for name := range strings.SplitSeq(got.Header.Get("Allow"), ",") {
				allowed[strings.TrimSpace(name)] = true
			}
			for name := range strings.SplitSeq(want, ", ") {
				if !allowed[name] {
					t.Errorf("%s %s: Allow %q lacks %s", method, path, got.Header.Get("Allow"), name)
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
		{"a header of 20 kB", "GET /v1/account HTTP/1.1\r\nHost: x\r\nX-Long: " + long + "\r\n\r\n", 431,
			"headers_too_large"},
		{"a path of 20 kB", "GET /" + long + " HTTP/1.1\r\nHost: x\r\n\r\n", 431, "headers_too_large"},
		{"a body above the limit, announced", head + "Content-Length: 10485760\r\n\r\n", 413, "body_too_large"},
		{"a body above the limit, in chunks", head + "Transfer-Encoding: chunked\r\n\r\n300000\r\n" +
			strings.Repeat("a", 0x300000) + "\r\n0\r\n\r\n", 413, "body_too_large"},
		{"garbage", "\x16\x03\x01 hello\r\n\r\n", 400, "invalid_request"},
		{"two lengths", head + "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 400, "invalid_request"},
		{"length and chunks", head + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400,
			"invalid_json"},
		{"a blank in a name", "GET /v1/info HTTP/1.1\r\nHost: x\r\nX Foo: bar\r\n\r\n", 400, "invalid_request"},
		{"a tab in a name", "GET /v1/info HTTP/1.1\r\nHost: x\r\nX\tFoo: bar\r\n\r\n", 400, "invalid_request"},
		{"a blank in a name, with a body", head + "X Foo: bar\r\nContent-Length: 2\r\n\r\n{}", 400, "invalid_request"},
		{"a blank behind a name", "GET /v1/info HTTP/1.1\r\nHost: x\r\nX-Foo : bar\r\n\r\n", 400, "invalid_request"},
		{"a negative length", head + "Content-Length: -1\r\n\r\n", 400, "invalid_request"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := e2e.DialWire(t, relay)
			go func() { _, _ = w.Write([]byte(c.request)) }() // the relay may answer before it has taken all
			got := w.Reply().Want(t, c.status, c.code)
			if uuid.Validate(got.Header.Get("X-Request-Id")) != nil || got.Sentence == "" ||
				got.Header.Get("Content-Type") != "application/json" {
				t.Errorf("not the shape of errors: %v %s", got.Header, got.Body)
			}
			if !w.Ended() {
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
	e2e.Ask{Method: "GET", Path: "/v1/devices", Token: device.Token,
		Header: map[string]string{"Cookie": "a=" + strings.Repeat("x", 15<<10)}}.To(t, relay).Want(t, 200, "")
}

func TestABodyOfTenMebibytesIsRefusedAndTheClientHearsIt(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	body := `{"username":"` + strings.Repeat("a", 10<<20) + `"}`
	for range 5 { // a client that writes on must not lose the answer to a reset
		e2e.Ask{Method: "POST", Path: "/v1/users", Body: body}.To(t, relay).Want(t, http.StatusRequestEntityTooLarge,
			"body_too_large")
	}
	// Between the limit of JSON bodies and that of all.
	e2e.Ask{Method: "POST", Path: "/v1/users", Body: body[:600<<10]}.To(t, relay).Want(t,
		http.StatusRequestEntityTooLarge, "body_too_large")
}

func TestARequestIDIsTheClientsOwnOrAFreshOne(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	own := strings.ToUpper(uuid.NewString())
	for _, path := range []string{"/openapi.yaml", "/v1/account", "/v1/nothing"} {
		got := e2e.Ask{Method: "GET", Path: path, Header: map[string]string{"X-Request-Id": own}}.To(t,
			relay).Header.Get("X-Request-Id")
		if got != own {
			t.Errorf("%s: %q, want the client's own", path, got)
		}
		seen := map[string]bool{}
		for _, sent := range []string{"", "x", "{" + own + "}", "urn:uuid:" + own, strings.ReplaceAll(own, "-", ""),
			own + own, strings.Repeat("z", 36)} {
			got := e2e.Ask{Method: "GET", Path: path, Header: map[string]string{"X-Request-Id": sent}}.To(t,
				relay).Header.Get("X-Request-Id")
			if uuid.Validate(got) != nil || got == own || seen[got] {
				t.Errorf("%s: %q for %q, want a fresh UUID", path, got, sent)
			}
			seen[got] = true
		}
	}
}
