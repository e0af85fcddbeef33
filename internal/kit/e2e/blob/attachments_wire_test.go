package blob_test

import (
	"bytes"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/obscura-relay/obscura/internal/app"
	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
	"github.com/obscura-relay/obscura/internal/kit/wait"
)

const blobRows = `SELECT (SELECT count(*) FROM backups WHERE upload IS NOT NULL) + (SELECT count(*) FROM attachments)
	+ (SELECT coalesce(sum(stored_bytes), 0) FROM attachment_usage) + (SELECT count(*) FROM blob_trash)`

// header is the head of an upload.
func header(device *relaytest.Device, path string, lines ...string) string {
	text := "POST " + path + " HTTP/1.1\r\nHost: x\r\nContent-Type: application/octet-stream\r\n"
	if device != nil {
		text += "Authorization: Bearer " + device.Token + "\r\n"
	}
	if path == "/v1/backup" {
		text += "If-None-Match: *\r\n"
	}
	return text + strings.Join(append(lines, ""), "\r\n") + "\r\n"
}

func TestTheLimitsOfBlobsAreExact(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	device := relay.Register(t).NewDevice(t)
	for _, c := range []struct {
		path         string
		size, status int
		code         string
	}{
		{"/v1/attachments", 0, 400, "body_too_small"},
		{"/v1/attachments", 1, 201, ""},
		{"/v1/attachments", 50 << 20, 201, ""},
		{"/v1/attachments", 50<<20 + 1, 413, "body_too_large"},
		{"/v1/backup", 0, 400, "body_too_small"},
		{"/v1/backup", 31, 400, "body_too_small"},
		{"/v1/backup", 2<<20 + 1, 413, "body_too_large"},
		{"/v1/backup", 32, 200, ""},
		{"/v1/backup", 2 << 20, 200, ""},
	} {
		if c.path == "/v1/backup" { // a device of its own, which has none
			device = relay.Register(t).NewDevice(t)
		}
		body := io.LimitReader(e2e.Zeros{}, int64(c.size))
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, relay.API+c.path, io.NopCloser(body))
		if err != nil {
			t.Fatal(err)
		}
		if request.ContentLength = int64(c.size); c.size == 0 {
			request.Body = http.NoBody
		}
		request.Header.Set("Authorization", "Bearer "+device.Token)
		request.Header.Set("Content-Type", e2e.Octets)
		if c.path == "/v1/backup" {
			request.Header.Set("If-None-Match", "*")
		}
		response, err := relay.HTTP().Do(request) //nolint:bodyclose // e2e.ReadReply closes it
		if err != nil {
			t.Errorf("%s of %d: %v", c.path, c.size, err)
			continue
		}
		e2e.ReadReply(t, response).Want(t, c.status, c.code)
	}
}

func TestAnUploadWithoutALengthIsRefused(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	device := relay.Register(t).NewDevice(t)
	for _, path := range []string{"/v1/attachments", "/v1/backup"} {
		for _, rest := range []string{header(device, path),
			header(device, path, "Transfer-Encoding: chunked") + "40\r\n" + strings.Repeat("x", 64) + "\r\n0\r\n\r\n"} {
			w := e2e.DialWire(t, relay)
			w.Send(rest)
			w.ReplyTo("POST", path).Want(t, 411, "length_required")
			if !w.Ended() {
				t.Error("the connection stays open")
			}
		}
	}
}

// Only the bytes that came of an attachment are counted in the account's day: else the relay could
// be made to take any number.
func TestAnUploadThatBreaksOffLeavesNothing(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t, func(c *app.Config) { c.ReadTimeout = 500 * time.Millisecond })
	database := e2e.Database(t, relay)
	device := relay.Register(t).NewDevice(t)
	for _, path := range []string{"/v1/attachments", "/v1/backup"} {
		begin := func() *e2e.Wire {
			w := e2e.DialWire(t, relay)
			w.Send(header(device, path, "Content-Length: 1000000") + strings.Repeat("x", 300_000))
			return w
		}
		w := begin()
		wait.Eventually(t, "it runs", func() bool { return e2e.Count(t, database, blobRows) > 0 })
		_ = w.Close()
		wait.Eventually(t, "nothing is left", func() bool {
			return e2e.Count(t, database, blobRows) == 0 && filesIn(t, relay) == 0
		})
		begin().ReplyTo("POST", path).Want(t, 408, "request_timeout")
		wait.Eventually(t, "nothing is left", func() bool {
			return e2e.Count(t, database, blobRows) == 0 && filesIn(t, relay) == 0
		})
	}
	if got := account(t, device).UploadedToday; got != 2*300_000 {
		t.Errorf("%d bytes count for the day", got)
	}
}

func TestABodyIsNeverTakenForARequest(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	device := relay.Register(t).NewDevice(t)
	smuggled := "GET /openapi.yaml HTTP/1.1\r\nHost: x\r\n\r\n"
	length := "Content-Length: " + strconv.Itoa(len(smuggled))
	trailing := header(device, "//h/v1/attachments?://", "Transfer-Encoding: chunked") +
		"0\r\nX-Obscura-Declared-Length: " + strconv.Itoa(len(smuggled)) + "\r\n\r\n"
	for name, c := range map[string]struct {
		head   string
		status int
		code   string
	}{
		"accepted":           {header(device, "/v1/attachments", length), 201, ""},
		"accepted, and more": {header(device, "/v1/attachments", length) + smuggled, 201, ""},
		"no token":           {header(nil, "/v1/attachments", length), 401, "unauthorized"},
		"too long":           {header(device, "/v1/attachments", "Content-Length: 99999999"), 413, "body_too_large"},
		"no length":          {header(device, "/v1/attachments"), 411, "length_required"},
		"no body":            {header(device, "/v1/attachments", "Content-Length: 0"), 400, "body_too_small"},
		"chunked": {header(device, "/v1/attachments", "Transfer-Encoding: chunked"), 411,
			"length_required"},
		"a made up length": {header(device, "/v1/attachments", "X-Obscura-Declared-Length: 44",
			"X-Obscura-Declared-Length: 44"), 411, "length_required"},
		"no condition": {strings.Replace(header(device, "/v1/backup", length), "If-None-Match: *\r\n", "", 1),
			400, "invalid_condition"},
		"another media type": {strings.Replace(header(device, "/v1/backup", length), "octet-stream", "json", 1), 415,
			"unsupported_media_type"},
		"no media type": {strings.Replace(header(device, "/v1/attachments", length),
			"Content-Type: application/octet-stream\r\n", "", 1), 201, ""},
		"an empty media type": {strings.Replace(header(device, "/v1/attachments", length), "application/octet-stream",
			"", 1), 201, ""},
		"the absolute form":    {header(device, "http://x/v1/attachments?a=b", length), 201, ""},
		"a host in the path":   {header(device, "//h/v1/attachments?://", length), 201, ""},
		"a length that trails": {trailing, 411, "length_required"},
		"an expected continue": {header(nil, "/v1/attachments", length, "Expect: 100-continue"), 401, "unauthorized"},
	} {
		w := e2e.DialWire(t, relay)
		w.Send(c.head + smuggled + smuggled)
		got := w.ReplyTo("POST", "/v1/attachments")
		if strings.Contains(c.head, "/v1/backup") && got.Code == "" {
			t.Errorf("%s: accepted", name)
		}
		if got.Status != c.status || got.Code != c.code {
			t.Errorf("%s: status %d, code %q", name, got.Status, got.Code)
		}
		if rest, _ := io.ReadAll(w.Reader); len(rest) > 0 {
			t.Errorf("%s: and then %q", name, rest)
		}
	}
	// Elsewhere a made up length is just a header, and the connection goes on.
	w := e2e.DialWire(t, relay)
	w.Send("POST /v1/gateway/ticket HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + device.Token +
		"\r\nX-Obscura-Declared-Length: 44\r\n\r\n" + smuggled)
	w.ReplyTo("POST", "/v1/gateway/ticket").Want(t, 201, "")
	w.ReplyTo("GET", "/openapi.yaml").Want(t, 200, "")
}

func TestAnUploadMayWaitForContinue(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	device := relay.Register(t).NewDevice(t)
	content := e2e.Random(t, 100_000)
	w := e2e.DialWire(t, relay)
	w.Send(header(device, "/v1/attachments", "Content-Length: 100000", "Expect: 100-continue"))
	line, err := w.Reader.ReadString('\n')
	if blank, _ := w.Reader.ReadString('\n'); err != nil || line != "HTTP/1.1 100 Continue\r\n" || blank != "\r\n" {
		t.Fatalf("%q %q, %v", line, blank, err)
	}
	w.Send(string(content))
	id := w.ReplyTo("POST", "/v1/attachments").Want(t, 201, "").Member(t, "id")
	got := e2e.Ask{Method: "GET", Path: "/v1/attachments/" + id, Token: device.Token}.To(t, relay).Want(t, 200, "")
	if !bytes.Equal(got.Body, content) {
		t.Error("it is not what was sent")
	}
}

func TestARefusedUploadHearsWhy(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	for range 10 { // a client that writes all before it reads
		w := e2e.DialWire(t, relay)
		w.Send(header(nil, "/v1/attachments", "Content-Length: 20000000"))
		if _, err := io.CopyN(w, e2e.Zeros{}, 20_000_000); err != nil {
			t.Fatalf("the relay does not let it finish: %v", err)
		}
		w.ReplyTo("POST", "/v1/attachments").Want(t, 401, "unauthorized")
	}
}

func TestETagIsSpelledAsInTheRFC(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	device := relay.Register(t).NewDevice(t)
	authorization := "Authorization: Bearer " + device.Token + "\r\n"
	id := e2e.Ask{Method: "POST", Path: "/v1/attachments", Token: device.Token, Media: e2e.Octets, Body: "x"}.To(t,
		relay).Want(t, 201, "").Member(t, "id")
	for _, head := range []string{
		header(device, "/v1/backup", "Content-Length: 32") + strings.Repeat("x", 32),
		"GET /v1/backup HTTP/1.1\r\nHost: x\r\n" + authorization + "\r\n",
		"HEAD /v1/backup HTTP/1.1\r\nHost: x\r\n" + authorization + "\r\n",
		"GET /v1/backup HTTP/1.1\r\nHost: x\r\nIf-None-Match: *\r\n" + authorization + "\r\n",
		"GET /v1/attachments/" + id + " HTTP/1.1\r\nHost: x\r\n" + authorization + "\r\n",
		"GET /openapi.yaml HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /openapi.json HTTP/1.1\r\nHost: x\r\nIf-None-Match: *\r\n\r\n",
		"GET /docs HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		w := e2e.DialWire(t, relay)
		w.Send(head)
		var tags []string
		for line := "-"; line != "\r\n"; {
			var err error
			if line, err = w.Reader.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
			if name, _, _ := strings.Cut(line, ":"); strings.EqualFold(name, "etag") {
				tags = append(tags, name)
			}
		}
		if len(tags) != 1 || tags[0] != "ETag" {
			t.Errorf("%.40q: %q", head, tags)
		}
	}
}
