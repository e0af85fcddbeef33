package conform

import (
	"bytes"
	"net/http"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

const binaryMedia = "application/octet-stream"

// blob uploads bytes; a relay that does not know the path does not offer it.
func (t *try) blob(d *device, path string, body []byte, header map[string]string) *answer {
	a := t.send(request{method: "POST", path: path, token: d.token, media: binaryMedia, body: body, header: header})
	t.offered(a)
	return a
}

func (t *try) offered(a *answer) {
	if a.status == http.StatusNotFound || a.status == http.StatusMethodNotAllowed {
		t.notOffered("there is nothing at " + a.asked)
	}
}

var blobChecks = []check{
	{"blobs.attachments", "An attachment comes back as it was, with its id as ETag; an empty one is 400, an unknown one 404.", func(t *try) {
		d, other := t.device(), t.device()
		content := bytes.Repeat([]byte("ciphertext \x00\xff"), 1000)
		stored := into[struct {
			ID        string
			ExpiresAt int64
		}](t.blob(d, "/v1/attachments", content, nil).want(http.StatusCreated, ""))
		t.must(stored.ID != "" && !strings.Contains(stored.ID, "/") && stored.ExpiresAt > 0, "the answer lacks id or expiresAt")
		fetch := request{method: "GET", path: "/v1/attachments/" + stored.ID, token: other.token}
		a := t.send(fetch).want(http.StatusOK, "(by the recipient)")
		t.must(bytes.Equal(a.body, content), "the attachment does not come back as it was")
		t.must(a.header.Get("ETag") == strconv.Quote(stored.ID), "ETag is not the id")
		fetch.header = map[string]string{"If-None-Match": strconv.Quote(stored.ID)}
		t.send(fetch).want(http.StatusNotModified, "(If-None-Match)")
		t.blob(d, "/v1/attachments", nil, nil).wantError(http.StatusBadRequest, "(an empty attachment)")
		t.call("GET", "/v1/attachments/"+uuid.NewString(), d.token, nil).wantError(http.StatusNotFound, "(an unknown attachment)")
	}},
	{"blobs.backup", "A backup is the device's own and is replaced only by who knows its version.", func(t *try) {
		d, other := t.device(), t.device()
		first, second := bytes.Repeat([]byte("first"), 20), bytes.Repeat([]byte("second"), 20)
		create := map[string]string{"If-None-Match": "*"}
		version := t.blob(d, "/v1/backup", first, create).want(http.StatusOK, "(the first)").header.Get("ETag")
		t.must(version != "", "the answer lacks ETag")
		t.blob(d, "/v1/backup", second, nil).wantError(http.StatusBadRequest, "(neither If-Match nor If-None-Match)")
		t.blob(d, "/v1/backup", second, create).wantError(http.StatusPreconditionFailed, "(there is one already)")
		t.blob(d, "/v1/backup", second, map[string]string{"If-Match": `"other"`}).wantError(http.StatusPreconditionFailed, "(another version)")
		next := t.blob(d, "/v1/backup", second, map[string]string{"If-Match": version}).want(http.StatusOK, "(the right version)").header.Get("ETag")
		t.must(next != version, "the version has not changed")
		t.blob(d, "/v1/backup", second[:31], map[string]string{"If-Match": next}).wantError(http.StatusBadRequest, "(31 bytes)")
		a := t.call("GET", "/v1/backup", d.token, nil).want(http.StatusOK, "")
		t.must(bytes.Equal(a.body, second) && a.header.Get("ETag") == next, "the backup is not the one that was stored last")
		head := t.call("HEAD", "/v1/backup", d.token, nil).want(http.StatusOK, "")
		t.must(head.header.Get("ETag") == next && head.header.Get("Content-Length") == strconv.Itoa(len(second)), "HEAD has another ETag or Content-Length")
		t.call("GET", "/v1/backup", other.token, nil).wantError(http.StatusNotFound, "(a device without a backup)")
	}},
	{"blobs.push-token", "A push token is taken; an empty one, or one above 4096 characters, is 400.", func(t *try) {
		d := t.device()
		put := func(token string) *answer {
			return t.call("PUT", "/v1/push-tokens", d.token, map[string]string{"token": token})
		}
		a := put("conform-" + randomHex(16))
		t.offered(a)
		a.want(http.StatusOK, "")
		put("").wantError(http.StatusBadRequest, "(an empty token)")
		put(strings.Repeat("t", 4097)).wantError(http.StatusBadRequest, "(4097 characters)")
	}},
}
