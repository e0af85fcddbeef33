package edge_test

import (
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/obscura-relay/obscura/gen/obscurapb"
	"github.com/obscura-relay/obscura/internal/app"
	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
	"github.com/obscura-relay/obscura/internal/kit/wait"
)

// announce is the head of a request with a body.
func announce(line, token string, lines ...string) string {
	text := line + "\r\nHost: h\r\nContent-Type: application/x-protobuf\r\n"
	if token != "" {
		text += "Authorization: Bearer " + token + "\r\n"
	}
	return text + strings.Join(append(lines, ""), "\r\n") + "\r\n"
}

func TestABodyIsRefusedBeforeItComes(t *testing.T) {
	t.Parallel()
	const origin = "https://chat.example.org"
	relay := relaytest.Start(t, func(c *app.Config) { c.CORSOrigins = []string{origin} })
	user := relay.Register(t)
	device := user.NewDevice(t)
	const smuggled = "GET /openapi.yaml HTTP/1.1\r\nHost: h\r\n\r\n"
	large, small, chunks := "Content-Length: 2097152", "Content-Length: "+strconv.Itoa(len(smuggled)),
		"Transfer-Encoding: chunked"
	waits, send := "Expect: 100-continue", "POST /v1/messages HTTP/1.1"
	for name, c := range map[string]struct {
		head   string
		status int
		code   string
	}{
		"an unknown path":          {announce("POST /x HTTP/1.1", "", large), 404, "not_found"},
		"an unknown path, small":   {announce("POST /x HTTP/1.1", "", small), 404, "not_found"},
		"an unknown path, chunked": {announce("POST /x HTTP/1.1", "", chunks), 404, "not_found"},
		"an unknown path, HTTP/1.0": {announce("POST /x HTTP/1.0", "", large, "Connection: keep-alive"), 404,
			"not_found"},
		"an unknown path, waiting": {announce("POST /x HTTP/1.1", "", large, waits), 404, "not_found"},
		"another method": {announce("PATCH /v1/messages HTTP/1.1", device.Token, large), 405,
			"method_not_allowed"},
		"a method nobody knows": {announce("BREW /v1/messages HTTP/1.1", device.Token, large), 405,
			"method_not_allowed"},
		"another path of the same": {announce("POST /v1/%6dessages HTTP/1.1", device.Token, large), 404,
			"not_found"},
		"a path with a slash more": {announce("POST /v1/messages/ HTTP/1.1", device.Token, large), 404, "not_found"},
		"the absolute form": {announce("POST http://h/v1/messages?x=//y HTTP/1.1", "", large), 401,
			"unauthorized"},
		"a host in the path":   {announce("POST //h/v1/messages?:// HTTP/1.1", "", large), 401, "unauthorized"},
		"no token":             {announce(send, "", large), 401, "unauthorized"},
		"no token, small":      {announce(send, "", small), 401, "unauthorized"},
		"no token, chunked":    {announce(send, "", chunks), 401, "unauthorized"},
		"no token, waiting":    {announce(send, "", large, waits), 401, "unauthorized"},
		"no token, HTTP/1.0":   {announce("POST /v1/messages HTTP/1.0", "", large), 401, "unauthorized"},
		"a made up token":      {announce(send, "x.y.z", large), 401, "unauthorized"},
		"a token of no device": {announce(send, user.Token, large), 403, "device_required"},
		"too large":            {announce(send, device.Token, "Content-Length: 2097153"), 413, "body_too_large"},
		"too large, waiting": {announce(send, device.Token, "Content-Length: 2097153", waits), 413,
			"body_too_large"},
		"another media type": {strings.Replace(announce(send, device.Token, "Content-Length: 2097153"),
			"x-protobuf", "json", 1), 415, "unsupported_media_type"},
		"a log-in of many bytes": {strings.Replace(announce("POST /v1/sessions HTTP/1.1", "",
			"Content-Length: 4097"), "x-protobuf", "json", 1), 413, "body_too_large"},
		"JSON of many bytes": {strings.Replace(announce("POST /v1/devices/keys HTTP/1.1", device.Token,
			"Content-Length: 524289"), "x-protobuf", "json", 1), 413, "body_too_large"},
		"a parameter in the path": {strings.Replace(announce("PUT /v1/devices/"+device.ID.String()+" HTTP/1.1",
			device.Token, "Content-Length: 524289"), "x-protobuf", "json", 1), 413, "body_too_large"},
		"a call that takes none": {announce("POST /v1/gateway/ticket HTTP/1.1", device.Token, large), 201, ""},
		"a GET":                  {announce("GET /openapi.yaml HTTP/1.1", "", large), 200, ""},
		"a preflight": {announce("OPTIONS /v1/messages HTTP/1.1", "", large,
			"Access-Control-Request-Method: POST"), 204, ""},
		"a body with the refused one": {announce(send, "", small) + smuggled, 401, "unauthorized"},
		"an expectation of its own": {announce(send, "", large, "Expect: 100-Continue", "Expect: x"), 401,
			"unauthorized"},
	} {
		w := e2e.DialWire(t, relay)
		w.Send(strings.Replace(c.head, "\r\n",
			"\r\nOrigin: "+origin+"\r\nX-Request-Id: 3f0c1c7e-0d2f-4f3b-9d55-1f7a3c1b2a10\r\n", 1) + smuggled)
		method, target, _ := strings.Cut(strings.SplitN(c.head, " HTTP", 2)[0], " ")
		_, path, _ := strings.Cut("/"+strings.TrimPrefix(target, "http://h"), "/")
		path, _, _ = strings.Cut(strings.TrimPrefix(path, "//h"), "?")
		got := w.Answer(&http.Request{Method: method, URL: &url.URL{Path: path},
			Header: http.Header{"Origin": {origin}}})
		if got.Status != c.status || got.Code != c.code {
			t.Errorf("%s: status %d, code %q", name, got.Status, got.Code)
		}
		if got.Header.Get("Access-Control-Allow-Origin") != origin ||
			got.Header.Get("X-Request-Id") != "3f0c1c7e-0d2f-4f3b-9d55-1f7a3c1b2a10" {
			t.Errorf("%s: headers %v", name, got.Header)
		}
		if rest, err := io.ReadAll(w.Reader); len(rest) > 0 || err != nil {
			t.Errorf("%s: and then %q, %v", name, rest, err)
		}
	}
	w := e2e.DialWire(t, relay) // the answer to HEAD has no body
	w.Send(announce("HEAD /v1/messages HTTP/1.1", "", large) + smuggled)
	if rest, err := io.ReadAll(w.Reader); err != nil || !strings.HasPrefix(string(rest), "HTTP/1.1 405") ||
		strings.Count(string(rest), "HTTP/1.1") != 1 {
		t.Errorf("HEAD: %q, %v", rest, err)
	}
}

// message is a SendMessageRequest of about a size.
func message(t *testing.T, to uuid.UUID, size int) string {
	t.Helper()
	request := &obscurapb.SendMessageRequest{}
	for ; size > 0; size -= 200 << 10 {
		id := uuid.New()
		request.Messages = append(request.Messages,
			&obscurapb.Submission{SubmissionId: id[:], DeviceId: to[:], Message: make([]byte, min(size, 200<<10))})
	}
	body, err := proto.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func TestABodyThatIsTakenKeepsItsConnection(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	device := relay.Register(t).NewDevice(t)
	w := e2e.DialWire(t, relay)
	for _, size := range []int{1, 3 << 10, 5 << 10, 100 << 10, 2<<20 - 1000} {
		body := message(t, device.ID, size)
		length := "Content-Length: " + strconv.Itoa(len(body))
		head := func(lines ...string) string { return announce("POST /v1/messages HTTP/1.1", device.Token, lines...) }
		chunks := ""
		for rest := body; rest != ""; {
			n := min(len(rest), 64<<10)
			chunks += fmt.Sprintf("%x\r\n%s\r\n", n, rest[:n])
			rest = rest[n:]
		}
		// All of them at once, one behind the other.
		go func() {
			_, _ = io.WriteString(w, head(length)+body+head("Transfer-Encoding: chunked")+chunks+"0\r\n\r\n"+
				announce("POST http://h/v1/messages HTTP/1.1", device.Token, length)+body)
		}()
		for range 3 {
			w.ReplyTo("POST", "/v1/messages").Want(t, 200, "")
		}
		w.Send(head(length, "Expect: 100-continue"))
		for _, want := range []string{"HTTP/1.1 100 Continue\r\n", "\r\n"} {
			if line, err := w.Reader.ReadString('\n'); err != nil || line != want {
				t.Fatalf("%q, %v", line, err)
			}
		}
		w.Send(body)
		w.ReplyTo("POST", "/v1/messages").Want(t, 200, "")
		old := e2e.DialWire(t, relay) // it waits for nothing, and its connection may end
		old.Send(announce("POST /v1/messages HTTP/1.0", device.Token, length, "Expect: 100-continue") + body)
		old.ReplyTo("POST", "/v1/messages").Want(t, 200, "")
	}
}

func TestAChunkedBodyIsBoundedByItsOperation(t *testing.T) {
	t.Parallel()
	const origin = "https://chat.example.org"
	relay := relaytest.Start(t, func(c *app.Config) { c.CORSOrigins = []string{origin} })
	device := relay.Register(t).NewDevice(t)
	for line, size := range map[string]int{"POST /v1/sessions HTTP/1.1": 4<<10 + 1,
		"POST /v1/devices/keys HTTP/1.1": 512<<10 + 1, "POST /v1/messages HTTP/1.1": 2<<20 + 1} {
		w := e2e.DialWire(t, relay)
		w.Send(announce(line, device.Token, "Transfer-Encoding: chunked",
			"Origin: "+origin) + strconv.FormatInt(int64(size), 16) + "\r\n")
		got := w.Reply().Want(t, 413, "body_too_large")
		if got.Header.Get("Access-Control-Allow-Origin") != "*" || got.Header.Get("X-Request-Id") == "" {
			t.Errorf("headers %v", got.Header)
		}
		if !w.Ended() {
			t.Error("the connection stays open")
		}
	}
}

func TestBodiesOfOneAccountAreBoundedAndGivenBack(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	user := relay.Register(t)
	device, other := user.NewDevice(t), user.NewDevice(t)
	stranger := relay.Register(t).NewDevice(t)
	begin := func(d *relaytest.Device) *e2e.Wire {
		w := e2e.DialWire(t, relay)
		w.Send(announce("POST /v1/messages HTTP/1.1", d.Token, "Content-Length: 2097152", "Expect: 100-continue"))
		return w
	}
	var eight []*e2e.Wire
	for range 8 {
		w := begin(device)
		if line, err := w.Reader.ReadString('\n'); err != nil || line != "HTTP/1.1 100 Continue\r\n" {
			t.Fatalf("%q, %v", line, err)
		}
		eight = append(eight, w)
	}
	got := begin(other).ReplyTo("POST", "/v1/messages").Want(t, 429, "rate_limited")
	if got.Header.Get("Retry-After") != "1" {
		t.Errorf("headers %v", got.Header)
	}
	for _, d := range []*relaytest.Device{stranger, device} { // small ones and those of others are taken
		body := message(t, d.ID, 3000)
		w := e2e.DialWire(t, relay)
		w.Send(announce("POST /v1/messages HTTP/1.1", d.Token, "Content-Length: "+strconv.Itoa(len(body))) + body)
		w.ReplyTo("POST", "/v1/messages").Want(t, 200, "")
	}
	_ = eight[0].Close() // broken off
	wait.Eventually(t, "its place is given back", func() bool {
		w := begin(other)
		defer func() { _ = w.Close() }()
		line, err := w.Reader.ReadString('\n')
		return err == nil && line == "HTTP/1.1 100 Continue\r\n"
	})
}

func TestBodiesOfAllAreBounded(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	users := make([]*relaytest.Device, 9)
	for i := range users {
		users[i] = relay.Register(t).NewDevice(t)
	}
	head := func(d *relaytest.Device) string {
		return announce("POST /v1/messages HTTP/1.1", d.Token, "Content-Length: 2097152", "Expect: 100-continue")
	}
	for _, d := range users[:8] {
		for range 8 {
			w := e2e.DialWire(t, relay)
			w.Send(head(d))
			if line, err := w.Reader.ReadString('\n'); err != nil || line != "HTTP/1.1 100 Continue\r\n" {
				t.Fatalf("%q, %v", line, err)
			}
		}
	}
	begun := time.Now()
	w := e2e.DialWire(t, relay)
	w.Send(head(users[8]))
	if got := w.ReplyTo("POST", "/v1/messages").Want(t, 503, "unavailable"); got.Header.Get("Retry-After") != "1" {
		t.Errorf("headers %v", got.Header)
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("the answer took %s", took)
	}
}

// Nobody knows who sends a sealed request: its body counts by client address, and all of them
// together leave the room of named ones alone.
func TestSealedBodiesAreBoundedByAddressAndInAll(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t, func(c *app.Config) {
		c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	})
	device := relay.Register(t).NewDevice(t)
	const goesOn = "HTTP/1.1 100 Continue\r\n"
	begin := func(path, token string, address int) *e2e.Wire {
		w := e2e.DialWire(t, relay)
		w.Send(announce("POST "+path+" HTTP/1.1", token, "Content-Length: 2097152", "Expect: 100-continue",
			"Idempotency-Key: "+uuid.NewString(), "X-Forwarded-For: 192.0.2."+strconv.Itoa(address)))
		return w
	}
	const sealed = "/v1/messages/sealed"
	for address := range 4 {
		for range 8 {
			w := begin(sealed, "", address)
			if line, err := w.Reader.ReadString('\n'); err != nil || line != goesOn {
				t.Fatalf("address %d: %q, %v", address, line, err)
			}
		}
		if address == 0 { // there is room for others
			begin(sealed, "", address).ReplyTo("POST", sealed).Want(t, 429, "rate_limited")
		}
	}
	got := begin(sealed, "", 5).ReplyTo("POST", sealed).Want(t, 503, "unavailable")
	if got.Header.Get("Retry-After") != "1" {
		t.Errorf("headers %v", got.Header)
	}
	if line, err := begin("/v1/messages", device.Token, 5).Reader.ReadString('\n'); err != nil || line != goesOn {
		t.Errorf("a named request: %q, %v", line, err)
	}
}
