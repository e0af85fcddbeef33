package conform

import (
	"bytes"
	"crypto/ecdh"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/gen/client"
)

const (
	binaryMedia = "application/octet-stream"

	attachmentsPath = "/v1/attachments"
	backupPath      = "/v1/backup"
	pushTokensPath  = "/v1/push-tokens"

	maxAttachment = 50 << 20
	maxBackup     = 2 << 20
)

// blob uploads bytes; a relay that does not know the path does not offer it.
func (t *try) blob(d *device, path string, body []byte, header map[string]string) *answer {
	a := t.send(request{method: "POST", path: path, token: d.token, media: binaryMedia, body: body, header: header})
	t.offered(a)
	return a
}

func (t *try) offered(a *answer) {
	if missing(a.status) {
		t.notOffered("there is nothing at " + a.asked)
	}
}

// missing reports how a relay answers at a path that it does not have.
func missing(status int) bool {
	return status == http.StatusNotFound || status == http.StatusMethodNotAllowed
}

// optional reports whether a relay may do without a path.
func optional(path string) bool {
	return path == backupPath || strings.HasPrefix(path, attachmentsPath) || strings.HasPrefix(path, pushTokensPath) ||
		strings.HasPrefix(path, certificatesPath) || path == infoPath
}

// attach uploads an attachment and returns its path.
func (t *try) attach(d *device, content []byte) string {
	stored := into[struct {
		ID        string
		ExpiresAt int64
	}](t.blob(d, attachmentsPath, content, nil).want(http.StatusCreated, ""))
	t.must(stored.ID != "" && !strings.Contains(stored.ID, "/") && stored.ExpiresAt > 0,
		"the answer lacks id or expiresAt")
	return attachmentsPath + "/" + stored.ID
}

// fetch downloads, with a condition or a range.
func (t *try) fetch(d *device, path, header, value string) *answer {
	return t.send(request{method: "GET", path: path, token: d.token, header: map[string]string{header: value}})
}

// isPoint reports whether a text is an uncompressed point of P-256 in base64url.
func isPoint(text string) bool {
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return false
	}
	_, err = ecdh.P256().NewPublicKey(raw)
	return err == nil
}

// bounds holds the rules of length of an upload: known beforehand, and not too much.
func (t *try) bounds(d *device, path string, most int64, header map[string]string) {
	r := request{method: "POST", path: path, token: d.token, media: binaryMedia, header: header,
		body: bytes.Repeat([]byte("c"), 100), chunked: true}
	t.send(r).wantError(http.StatusLengthRequired, "(without a Content-Length)")
	r.body, r.chunked = make([]byte, most+1), false
	t.send(r).wantError(http.StatusRequestEntityTooLarge, "(one byte above the limit)")
}

var attachmentChecks = []check{
	{"blobs.attachments", "An attachment comes back as it was, with its id as ETag; an empty one is 400, an unknown one 404.", func(t *try) {
		d, other := t.device(), t.device()
		content := bytes.Repeat([]byte("ciphertext \x00\xff"), 1000)
		path := t.attach(d, content)
		etag := strconv.Quote(strings.TrimPrefix(path, attachmentsPath+"/"))
		a := t.call("GET", path, other.token, nil).want(http.StatusOK, "(by the recipient)")
		t.must(bytes.Equal(a.body, content), "the attachment does not come back as it was")
		t.must(a.header.Get("ETag") == etag, "ETag is not the id")
		t.fetch(other, path, "If-None-Match", etag).want(http.StatusNotModified, "(If-None-Match)")
		t.blob(d, attachmentsPath, nil, nil).wantError(http.StatusBadRequest, "(an empty attachment)")
		t.call("GET", attachmentsPath+"/"+uuid.NewString(), d.token, nil).wantError(http.StatusNotFound,
			"(an unknown attachment)")
	}},
	{"blobs.attachment-token", "Attachments are uploaded and downloaded with a device's token only.", func(t *try) {
		d := t.device()
		path := t.attach(d, []byte("ciphertext"))
		upload := request{method: "POST", path: attachmentsPath, media: binaryMedia, body: []byte("ciphertext")}
		t.send(upload).wantError(http.StatusUnauthorized, "(without a token)")
		t.call("GET", path, "", nil).wantError(http.StatusUnauthorized, "(without a token)")
		upload.token = d.user.token
		t.send(upload).wantError(http.StatusForbidden, "(user-scoped)")
		t.call("GET", path, d.user.token, nil).wantError(http.StatusForbidden, "(user-scoped)")
	}},
	{"blobs.attachment-size", "An upload of unknown length is 411, one above 50 MiB is 413.", func(t *try) {
		d := t.device()
		t.attach(d, []byte("ciphertext"))
		t.bounds(d, attachmentsPath, maxAttachment, nil)
	}},
	{"blobs.attachment-range", "A part of an attachment can be asked for; one behind its end is 416.", func(t *try) {
		d := t.device()
		path := t.attach(d, []byte("0123456789"))
		a := t.fetch(d, path, "Range", "bytes=2-4")
		if a.status == http.StatusOK {
			t.notOffered("parts are not: the whole comes back")
		}
		a.want(http.StatusPartialContent, "(a part)")
		t.must(string(a.body) == "234" && a.header.Get("Content-Range") == "bytes 2-4/10",
			"the part is not the one that was asked for")
		t.must(string(t.fetch(d, path, "Range", "bytes=-3").want(http.StatusPartialContent, "(the end)").body) == "789",
			"the end is not the last bytes")
		t.fetch(d, path, "Range", "bytes=10-").wantError(http.StatusRequestedRangeNotSatisfiable, "(behind the end)")
	}},
	{"blobs.attachment-account", "Attachments go with the account that uploaded them.", func(t *try) {
		u, other := t.user(), t.device()
		path := t.attach(t.deviceOf(u, 1, 0), []byte("ciphertext"))
		t.call("GET", path, other.token, nil).want(http.StatusOK, "(before)")
		t.call("DELETE", "/v1/account", u.token, client.DeleteAccount{Password: u.password()}).want(http.StatusOK, "")
		u.deleted.Store(true)
		t.eventually(soon, "an attachment of a deleted account is still there", func() bool {
			return t.call("GET", path, other.token, nil).status == http.StatusNotFound
		})
	}},
}

var backupChecks = []check{
	{"blobs.backup", "A backup is the device's own and is replaced only by who knows its version.", func(t *try) {
		d, other := t.device(), t.device()
		first, second := bytes.Repeat([]byte("first"), 20), bytes.Repeat([]byte("second"), 20)
		create := map[string]string{"If-None-Match": "*"}
		version := t.blob(d, backupPath, first, create).want(http.StatusOK, "(the first)").header.Get("ETag")
		t.must(version != "", "the answer lacks ETag")
		t.blob(d, backupPath, second, nil).wantError(http.StatusBadRequest, "(neither If-Match nor If-None-Match)")
		t.blob(d, backupPath, second, create).wantError(http.StatusPreconditionFailed, "(there is one already)")
		t.blob(d, backupPath, second, map[string]string{"If-Match": `"other"`}).wantError(http.StatusPreconditionFailed,
			"(another version)")
		next := t.blob(d, backupPath, second, map[string]string{"If-Match": version}).want(http.StatusOK,
			"(the right version)").header.Get("ETag")
		t.must(next != version, "the version has not changed")
		t.blob(d, backupPath, second[:31], map[string]string{"If-Match": next}).wantError(http.StatusBadRequest,
			"(31 bytes)")
		a := t.call("GET", backupPath, d.token, nil).want(http.StatusOK, "")
		t.must(bytes.Equal(a.body, second) && a.header.Get("ETag") == next,
			"the backup is not the one that was stored last")
		t.fetch(d, backupPath, "If-None-Match", next).want(http.StatusNotModified, "(If-None-Match)")
		head := t.call("HEAD", backupPath, d.token, nil).want(http.StatusOK, "")
		t.must(head.header.Get("ETag") == next && head.header.Get("Content-Length") == strconv.Itoa(len(second)),
			"HEAD has another ETag or Content-Length")
		t.call("GET", backupPath, other.token, nil).wantError(http.StatusNotFound, "(a device without a backup)")
	}},
	{"blobs.backup-size", "A backup of unknown length is 411, one above 2 MiB is 413.", func(t *try) {
		d := t.device()
		create := map[string]string{"If-None-Match": "*"}
		t.blob(d, backupPath, make([]byte, maxBackup), create).want(http.StatusOK, "(2 MiB)")
		version := t.call("HEAD", backupPath, d.token, nil).want(http.StatusOK, "").header.Get("ETag")
		t.bounds(d, backupPath, maxBackup, map[string]string{"If-Match": version})
	}},
	{"blobs.backup-race", "Of several first backups at once exactly one is stored; the others are 409 or 412.",
		func(t *try) {
			d := t.device()
			var winners atomic.Int32
			var kept atomic.Pointer[string]
			t.together(8, func(i int) {
				content := bytes.Repeat([]byte{'0' + byte(i)}, 1000)
				a := t.blob(d, backupPath, content, map[string]string{"If-None-Match": "*"})
				if a.status == http.StatusOK {
					winners.Add(1)
					kept.Store(new(string(content)))
					return
				}
				t.must(a.status == http.StatusConflict || a.status == http.StatusPreconditionFailed,
					"%s at once with others: %s", a.asked, a.said())
			})
			t.must(winners.Load() == 1, "%d of 8 were stored", winners.Load())
			t.must(string(t.call("GET", backupPath, d.token, nil).want(http.StatusOK, "").body) == *kept.Load(),
				"the backup is not the winner's")
		}},
	{"blobs.backup-takeover", "A takeover keeps the backup.", func(t *try) {
		d := t.device()
		content := bytes.Repeat([]byte("c"), 100)
		t.blob(d, backupPath, content, map[string]string{"If-None-Match": "*"}).want(http.StatusOK, "")
		t.takeOver(d)
		t.must(bytes.Equal(t.call("GET", backupPath, d.token, nil).want(http.StatusOK, "(after a takeover)").body,
			content), "the backup is another one")
	}},
}

var pushChecks = []check{
	{"blobs.push-token", "A push token is taken; an empty one, or one above 4096 characters, is 400.", func(t *try) {
		d := t.device()
		put := func(token string) *answer {
			return t.call("PUT", pushTokensPath, d.token, map[string]string{"token": token})
		}
		a := put("conform-" + randomHex(16))
		t.offered(a)
		a.want(http.StatusOK, "")
		put("").wantError(http.StatusBadRequest, "(an empty token)")
		put(strings.Repeat("t", 4097)).wantError(http.StatusBadRequest, "(4097 characters)")
	}},
	{"blobs.web-push", "A Web Push subscription is taken when it is well-formed, instead of a token and not beside one; it can be deleted.", func(t *try) {
		d := t.device()
		a := t.call("GET", pushTokensPath+"/vapid", d.token, nil)
		t.offered(a)
		key := into[client.VapidKey](a.want(http.StatusOK, "")).PublicKey
		t.must(isPoint(key), "the key of the relay is not a point of P-256")
		put := func(endpoint, p256dh, token string) *answer {
			body := map[string]any{"webPush": map[string]any{"endpoint": endpoint,
				"keys": map[string]string{"p256dh": p256dh, "auth": "AAAAAAAAAAAAAAAAAAAAAA"}}}
			if token != "" {
				body["token"] = token
			}
			return t.call("PUT", pushTokensPath, d.token, body)
		}
		// The relay's own key is a point that nobody can be woken up with.
		put("https://push.invalid/conform", key, "").want(http.StatusOK, "")
		put("http://push.invalid/conform", key, "").wantError(http.StatusBadRequest, "(not https)")
		put("https://push.invalid/conform", strings.Repeat("A", 87), "").wantError(http.StatusBadRequest,
			"(a key that is no point)")
		put("https://push.invalid/conform", key, "conform").wantError(http.StatusBadRequest, "(both)")
		t.call("PUT", pushTokensPath, d.token, json.RawMessage(`{}`)).wantError(http.StatusBadRequest, "(neither)")
		t.call("DELETE", pushTokensPath, d.token, nil).want(http.StatusOK, "")
		t.call("DELETE", pushTokensPath, d.token, nil).want(http.StatusOK, "(again)")
	}},
}
