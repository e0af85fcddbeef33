package conform

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

// asUploaded is an answer as good as that of an upload.
func asUploaded(where string) *reply {
	if where == "POST "+attachmentsPath {
		return made(http.StatusCreated, map[string]any{"id": uuid.NewString(), "expiresAt": 2_000_000_000})
	}
	r := okEmpty()
	r.header.Set("ETag", `"9"`)
	return r
}

// taking takes uploads that the good relay refuses with a status.
func taking(where string, status int, also func(*ask) bool) func(*broken) spoil {
	return answering(where, func(a *ask, r *reply) *reply {
		if r.status == status && (also == nil || also(a)) {
			return asUploaded(where)
		}
		return r
	})
}

// replaces and creates tell the uploads of a backup apart.
func replaces(a *ask) bool { return a.header.Get("If-Match") != "" }
func creates(a *ask) bool  { return a.header.Get("If-None-Match") != "" }

// takingPush takes push tokens that the good relay refuses.
func takingPush(webPush bool) func(*broken) spoil {
	return answering("PUT /v1/push-tokens", func(a *ask, r *reply) *reply {
		if _, is := object(a.body)["webPush"]; is == webPush && r.status == http.StatusBadRequest {
			return okEmpty()
		}
		return r
	})
}

const oneAttachment = "GET " + attachmentsPath + "/{id}"

var blobFaults = []fault{
	{"empty attachments are taken", "blobs.attachments", taking("POST "+attachmentsPath, http.StatusBadRequest, nil)},
	{"attachments have another ETag", "blobs.attachments", answering(oneAttachment, func(_ *ask, r *reply) *reply {
		if r.status == http.StatusOK {
			r.header.Set("ETag", `"1"`)
		}
		return r
	})},
	{"anybody downloads attachments", "blobs.attachment-token", func(*broken) spoil {
		tokens := newTable[string]()
		return spoil{http: func(a *ask, forward func(*ask) *reply) *reply {
			if a.where == "POST "+attachmentsPath && readClaims(a.token()).device() != "" {
				tokens.put("any", a.token())
			}
			token, known := tokens.get("any")
			if a.where == oneAttachment && known && readClaims(a.token()).device() == "" {
				a = a.with(nil)
				a.header.Set("Authorization", "Bearer "+token)
			}
			return forward(a)
		}}
	}},
	{"attachments of unknown length are taken", "blobs.attachment-size",
		taking("POST "+attachmentsPath, http.StatusLengthRequired, nil)},
	{"attachments of any size are taken", "blobs.attachment-size",
		taking("POST "+attachmentsPath, http.StatusRequestEntityTooLarge, nil)},
	{"a part is not the one that was asked for", "blobs.attachment-range",
		answering(oneAttachment, func(_ *ask, r *reply) *reply {
			if r.status == http.StatusPartialContent {
				r.body = append(r.body[1:], r.body[0])
			}
			return r
		})},
	{"a part behind the end is empty", "blobs.attachment-range",
		answering(oneAttachment, func(_ *ask, r *reply) *reply {
			if r.status == http.StatusRequestedRangeNotSatisfiable {
				r = okEmpty()
				r.header.Set("Content-Type", binaryMedia)
			}
			return r
		})},
	{"attachments outlive their account", "blobs.attachment-account", func(*broken) spoil {
		seen := newTable[*reply]()
		return answering(oneAttachment, func(a *ask, r *reply) *reply {
			if r.status == http.StatusOK {
				seen.put(a.path, r)
			}
			if old, ok := seen.get(a.path); ok && r.status == http.StatusNotFound {
				return old
			}
			return r
		})(nil)
	}},
	{"backups are replaced whatever their version", "blobs.backup",
		taking("POST "+backupPath, http.StatusPreconditionFailed, replaces)},
	{"backups are made over those that are there", "blobs.backup blobs.backup-race", func(*broken) spoil {
		return answering("POST "+backupPath, func(a *ask, r *reply) *reply {
			if creates(a) && (r.status == http.StatusPreconditionFailed || r.status == http.StatusConflict) {
				return asUploaded(a.where)
			}
			return r
		})(nil)
	}},
	{"backups of unknown length are taken", "blobs.backup-size",
		taking("POST "+backupPath, http.StatusLengthRequired, nil)},
	{"backups of any size are taken", "blobs.backup-size", taking("POST "+backupPath, http.StatusRequestEntityTooLarge,
		nil)},
	{"a takeover drops the backup", "blobs.backup-takeover", func(*broken) spoil {
		taken := newTable[bool]()
		return spoil{http: func(a *ask, forward func(*ask) *reply) *reply {
			device := readClaims(a.token()).device()
			if a.where == "POST /v1/devices/keys" && object(a.body)["identityKey"] != nil {
				taken.put(device, true)
			}
			if _, is := taken.get(device); is && a.where == "GET "+backupPath {
				return madeError(http.StatusNotFound, "backup_not_found")
			}
			return forward(a)
		}}
	}},
	{"any push token is taken", "blobs.push-token", takingPush(false)},
	{"any subscription is taken", "blobs.web-push", takingPush(true)},
}

func TestWhatIsNotOfferedIsNoFailure(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t) // without rate limits
	for name, c := range map[string]struct {
		url  string
		want Result
	}{
		"offered":     {relay.API, Pass},
		"not offered": {breakIt(t, relay.API, fault{make: withoutBlobs}), NotOffered},
	} {
		results, err := Run(t.Context(), Config{URL: c.url, Only: []string{"blobs", "certificates", "limits"},
			Out: io.Discard})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, o := range results.Checks {
			want := c.want
			switch topic, _, _ := strings.Cut(o.Name, "."); topic {
			case "limits":
				want = NotOffered
			case "contract", "accounts":
				want = Pass
			}
			if o.Result != want || (o.Result == NotOffered) != (o.Reason != "") {
				t.Errorf("%s: %s is %s: %s", name, o.Name, o.Result, o.Reason)
			}
		}
	}
}

func withoutBlobs(*broken) spoil {
	return spoil{http: func(a *ask, forward func(*ask) *reply) *reply {
		if optional(a.path) {
			return madeError(http.StatusNotFound, "not_found")
		}
		return forward(a)
	}}
}
