package edge_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"mime"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/obscura-relay/obscura"
	"github.com/obscura-relay/obscura/internal/app"
	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
	"github.com/obscura-relay/obscura/internal/page"
)

// public are the documents that anybody may read.
var public = []string{"/", "/openapi.yaml", "/openapi.json", "/obscura.proto", "/docs", "/docs/page.js",
	"/docs/page.css", "/docs/swagger-ui.css",
	"/docs/swagger-ui-bundle.js", "/docs/swagger-ui-bundle.js.LICENSE.txt", "/docs/swagger-ui-bundle.js.NOTICE.txt"}

func TestTheContractIsServedByteForByte(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	for path, want := range map[string]struct {
		media string
		data  []byte
	}{
		"/openapi.yaml": {"application/yaml", obscura.OpenAPI}, "/obscura.proto": {"text/plain", obscura.Proto},
		"/docs": {"text/html", page.HTML},
	} {
		got := e2e.Ask{Method: "GET", Path: path}.To(t, relay).Want(t, 200, "")
		media, params, err := mime.ParseMediaType(got.Header.Get("Content-Type"))
		if err != nil || media != want.media || strings.HasPrefix(media, "text/") && params["charset"] != "utf-8" ||
			!bytes.Equal(got.Body, want.data) {
			t.Errorf("%s: %s, %d bytes, want %s, %d bytes", path, got.Header.Get("Content-Type"), len(got.Body),
				want.media, len(want.data))
		}
	}
}

func TestTheContractAsJSONIsTheContract(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	var want, got any
	if err := yaml.Unmarshal(obscura.OpenAPI, &want); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(want) // so that numbers are of one kind
	if err == nil {
		err = json.Unmarshal(text, &want)
	}
	if err != nil {
		t.Fatal(err)
	}
	answer := e2e.Ask{Method: "GET", Path: "/openapi.json"}.To(t, relay).Want(t, 200, "")
	if err := json.Unmarshal(answer.Body, &got); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("openapi.json is not what openapi.yaml says: %v", err)
	}
}

func TestADocumentIsNotSentToWhoHasItAlready(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	for _, path := range public {
		get := func(headers ...string) e2e.Reply {
			a := e2e.Ask{Method: "GET", Path: path, Header: map[string]string{"Accept-Encoding": "gzip"}}
			for i := 0; i < len(headers); i += 2 {
				a.Header[headers[i]] = headers[i+1]
			}
			return a.To(t, relay)
		}
		first := get().Want(t, 200, "")
		etag := first.Header.Get("ETag")
		for _, condition := range []string{etag, "W/" + etag, `"other", ` + etag, `"other",` + etag + `,"third"`, "*"} {
			got := get("If-None-Match", condition).Want(t, 304, "")
			if len(got.Body) != 0 || got.Header.Get("ETag") != etag || got.Header.Get("Cache-Control") != "no-cache" ||
				got.Header.Get("Vary") != first.Header.Get("Vary") || got.Header.Get("Content-Encoding") != "" {
				t.Errorf("%s, If-None-Match %s: %v, %d bytes", path, condition, got.Header, len(got.Body))
			}
		}
		for _, headers := range [][]string{{"If-None-Match", `"other"`}, {"If-None-Match", strings.Trim(etag, `"`)},
			{"If-None-Match", ""},
			{"If-Modified-Since", "Mon, 02 Jan 2100 15:04:05 GMT"},
			{"If-None-Match", etag, "Cache-Control", "no-cache"}} {
			if got := get(headers...).Want(t, 200, ""); !bytes.Equal(got.Body, first.Body) {
				t.Errorf("%s, %v: another content", path, headers)
			}
		}
	}
}

func TestAPackedFileIsUnpackedForWhoCannot(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	for name, file := range page.Files {
		if !file.Packed {
			continue
		}
		want := unzipped(t, file.Data)
		tags := map[string]string{}
		for accept, coding := range map[string]string{"gzip": "gzip", "gzip, deflate, br, zstd": "gzip",
			"br;q=1.0, gzip;q=0.8, *;q=0.1": "gzip", "*": "gzip",
			"identity": "", "br": "", "gzip;q=0": "", "": ""} {
			got := e2e.Ask{Method: "GET", Path: "/docs/" + name,
				Header: map[string]string{"Accept-Encoding": accept}}.To(t, relay).Want(t, 200, "")
			if got.Header.Get("Content-Encoding") != coding || got.Header.Get("Vary") != "Accept-Encoding" {
				t.Errorf("%s, Accept-Encoding %q: %v", name, accept, got.Header)
			}
			body := got.Body
			if coding == "gzip" {
				body = unzipped(t, body)
			}
			if !bytes.Equal(body, want) {
				t.Errorf("%s, Accept-Encoding %q: another content", name, accept)
			}
			if tag := tags[coding]; tag != "" && tag != got.Header.Get("ETag") {
				t.Errorf("%s: two ETags for one form", name)
			}
			tags[coding] = got.Header.Get("ETag")
		}
		if tags[""] == tags["gzip"] {
			t.Errorf("%s: one ETag for both forms", name)
		}
		w := e2e.DialWire(t, relay)
		w.Send("GET /docs/" + name + " HTTP/1.1\r\nHost: x\r\n\r\n")
		if got := w.ReplyTo("GET", "/docs/"+name).Want(t, 200, ""); got.Header.Get("Content-Encoding") != "" ||
			!bytes.Equal(got.Body, want) {
			t.Errorf("%s, without Accept-Encoding: %v", name, got.Header)
		}
	}
}

func unzipped(t *testing.T, data []byte) []byte {
	t.Helper()
	r, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return plain
}

var reference = regexp.MustCompile(`(?:src|href)="([^"]*)"`)

func TestThePageNeedsNothingThatItsPolicyForbids(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	got := e2e.Ask{Method: "GET", Path: "/docs"}.To(t, relay).Want(t, 200, "")
	policy := got.Header.Get("Content-Security-Policy")
	for _, rule := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'",
		"frame-ancestors 'none'", "base-uri 'none'"} {
		if !strings.Contains(policy+";", rule+";") {
			t.Errorf("the policy lacks %s", rule)
		}
	}
	if strings.Contains(policy, "unsafe") || strings.Contains(policy, "http") || strings.Contains(policy, "*") {
		t.Errorf("the policy is not strict: %s", policy)
	}
	loaded := 0
	for _, m := range reference.FindAllStringSubmatch(string(got.Body), -1) {
		if m[1] == "data:," { // the empty icon
			continue
		}
		loaded++
		media := e2e.Ask{Method: "GET", Path: m[1]}.To(t, relay).Want(t, 200, "").Header
		if media.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %v", m[1], media)
		}
	}
	if loaded < 4 || strings.Count(string(got.Body), "<script ") != strings.Count(string(got.Body), "<script src=") ||
		strings.Contains(string(got.Body), "<style") {
		t.Errorf("the page:\n%s", got.Body)
	}
}

func TestTheRelaysAddressSaysWhatThisIs(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	for _, accept := range []string{"", "text/html", "application/json"} {
		got := e2e.Ask{Method: "GET", Path: "/", Header: map[string]string{"Accept": accept}}.To(t, relay).Want(t, 200,
			"")
		text := string(got.Body)
		if media := got.Header.Get("Content-Type"); media != "text/html; charset=utf-8" {
			t.Errorf("Accept %q: %s", accept, media)
		}
		for _, part := range []string{"Obscura relay", "public keys", "ciphertext",
			"<code>" + app.Version() + "</code>"} {
			if !strings.Contains(text, part) {
				t.Errorf("the page lacks %q:\n%s", part, text)
			}
		}
		if got.Header.Get("Content-Security-Policy") != page.Policy || strings.Contains(text, "<script") ||
			strings.Contains(text, "style") {
			t.Errorf("%v\n%s", got.Header, text)
		}
		var links []string
		for _, m := range reference.FindAllStringSubmatch(text, -1) {
			if m[1] == "data:," { // the empty icon
				continue
			}
			links = append(links, m[1])
			e2e.Ask{Method: "GET", Path: m[1]}.To(t, relay).Want(t, 200, "")
		}
		if !slices.Equal(links, []string{"/docs", "/openapi.yaml", "/obscura.proto"}) {
			t.Errorf("links: %v", links)
		}
	}
}

func TestThePageHasNoOtherFiles(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	if len(public) != 5+len(page.Files) {
		t.Errorf("%d files, and %d documents here", len(page.Files), len(public))
	}
	for _, path := range []string{"/docs/x", "/docs/page.go", "/docs/..%2fpage.js", "/docs/swagger-ui.css.gz",
		"/docs/%00", "/docs/page.js/x"} {
		e2e.Ask{Method: "GET", Path: path}.To(t, relay).Want(t, http.StatusNotFound, "not_found")
	}
}
