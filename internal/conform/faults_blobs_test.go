package conform

import (
	"bytes"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/internal/relaytest"
)

// blobs is what a relay offers that has attachments, backups and push tokens, as long as nothing is
// broken.
type blobs struct {
	careless string // the path at which conditions are not looked at

	mu     sync.Mutex
	stored map[string][]byte // guarded by mu: attachments by id, backups by device
	etags  map[string]string // guarded by mu
}

func offering(careless string) func(*broken) spoil {
	return func(*broken) spoil {
		s := &blobs{careless: careless, stored: map[string][]byte{}, etags: map[string]string{}}
		return spoil{http: func(a *ask, forward func(*ask) *reply) *reply {
			s.mu.Lock()
			defer s.mu.Unlock()
			switch {
			case strings.HasPrefix(a.path, "/v1/attachments"):
				return s.attachment(a)
			case a.path == "/v1/backup":
				return s.backup(a, readClaims(a.token()).device())
			case a.path == "/v1/push-tokens":
				if n := len(text(object(a.body), "token")); (n == 0 || n > 4096) && s.careless != a.path {
					return madeError(http.StatusBadRequest, "invalid_request")
				}
				return okEmpty()
			}
			s.mu.Unlock()
			defer s.mu.Lock()
			return forward(a)
		}}
	}
}

func (s *blobs) attachment(a *ask) *reply {
	if a.method == "POST" {
		if len(a.body) == 0 && s.careless != "/v1/attachments" {
			return madeError(http.StatusBadRequest, "invalid_request")
		}
		id := uuid.NewString()
		s.stored[id] = a.body
		return made(http.StatusCreated, map[string]any{"id": id, "expiresAt": 2_000_000_000})
	}
	content, ok := s.stored[a.id]
	if !ok {
		return madeError(http.StatusNotFound, "not_found")
	}
	return s.content(a, content, strconv.Quote(a.id))
}

func (s *blobs) content(a *ask, content []byte, etag string) *reply {
	r := okEmpty()
	r.header.Set("Content-Type", binaryMedia)
	r.header.Set("ETag", etag)
	if a.header.Get("If-None-Match") == etag {
		r.status = http.StatusNotModified
		return r
	}
	r.body = content
	return r
}

func (s *blobs) backup(a *ask, device string) *reply {
	content, there := s.stored[device]
	if a.method != "POST" {
		if !there {
			return madeError(http.StatusNotFound, "not_found")
		}
		return s.content(a, content, s.etags[device])
	}
	match, create := a.header.Get("If-Match"), a.header.Get("If-None-Match") == "*"
	switch {
	case len(a.body) < 32 || match == "" && !create:
		return madeError(http.StatusBadRequest, "invalid_request")
	case s.careless != a.path && (create && there || match != "" && match != s.etags[device]):
		return madeError(http.StatusPreconditionFailed, "precondition_failed")
	}
	s.stored[device], s.etags[device] = bytes.Clone(a.body), strconv.Quote(uuid.NewString())
	r := okEmpty()
	r.header.Set("ETag", s.etags[device])
	return r
}

var blobFaults = []fault{
	{"empty attachments are taken", "blobs.attachments", offering("/v1/attachments")},
	{"backups are replaced whatever their version", "blobs.backup", offering("/v1/backup")},
	{"any push token is taken", "blobs.push-token", offering("/v1/push-tokens")},
}

func TestWhatIsNotOfferedIsNoFailure(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t) // without rate limits
	for name, c := range map[string]struct {
		url  string
		want Result
	}{
		"offered":     {breakIt(t, relay.API, fault{make: offering("")}), Pass},
		"not offered": {breakIt(t, relay.API, fault{make: withoutBlobs}), NotOffered},
	} {
		results, err := Run(t.Context(), Config{URL: c.url, Only: []string{"blobs", "limits"}, Out: io.Discard})
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
		if strings.HasPrefix(a.path, "/v1/attachments") || a.path == "/v1/backup" || a.path == "/v1/push-tokens" {
			return madeError(http.StatusNotFound, "not_found")
		}
		return forward(a)
	}}
}
