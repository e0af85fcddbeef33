package blob_test

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

// filesIn counts the blobs in the store of a relay.
func filesIn(t testing.TB, relay *relaytest.Relay) int {
	t.Helper()
	n := 0
	err := filepath.WalkDir(relay.Blobs, func(_ string, entry os.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			n++
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestAnAttachmentComesBackAsItWas(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	alice, bob := relay.Register(t).NewDevice(t), relay.Register(t).NewDevice(t)
	for _, size := range []int{1, 100, 5000, 1 << 20, 5<<20 + 7} {
		content := e2e.Random(t, size)
		a := e2e.Attach(t, alice, content)
		if left := time.Until(time.Unix(a.ExpiresAt, 0)); left < 30*24*time.Hour-time.Minute ||
			left > 30*24*time.Hour+time.Minute {
			t.Errorf("it is kept for %s", left)
		}
		got, err := bob.DownloadAttachmentWithResponse(t.Context(), a.ID, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got.StatusCode() != http.StatusOK || !bytes.Equal(got.Body, content) {
			t.Errorf("%d bytes: status %d, %d bytes", size, got.StatusCode(), len(got.Body))
		}
		if tag := got.HTTPResponse.Header.Get("ETag"); tag != `"`+a.ID.String()+`"` {
			t.Errorf("ETag %s", tag)
		}
	}
	got, err := bob.DownloadAttachmentWithResponse(t.Context(), uuid.New(), nil)
	if err != nil || got.StatusCode() != http.StatusNotFound {
		t.Errorf("%v, %v", got, err)
	}
}
