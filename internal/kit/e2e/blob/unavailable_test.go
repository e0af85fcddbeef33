package blob_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/obscura-relay/obscura/internal/app"
	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
	"github.com/obscura-relay/obscura/internal/kit/s3test"
	"github.com/obscura-relay/obscura/internal/kit/wait"
)

func TestAStoreThatIsAwayHoldsUpNothingElse(t *testing.T) {
	t.Parallel()
	s3 := s3test.New(t)
	s3.Be(s3test.Cut, "")
	relay := relaytest.Start(t, func(c *app.Config) { c.BlobURL = s3.URL })
	alice, bob := relay.Register(t).NewDevice(t), relay.Register(t).NewDevice(t)
	if failed := alice.Send(t, nil, relaytest.To(bob.ID, "hello")); len(failed) != 0 {
		t.Errorf("%v", failed)
	}
	socket := bob.Connect(t)
	if mail, _, _ := socket.Drain(); len(mail) != 1 {
		t.Errorf("%d envelopes", len(mail))
	}
	content := e2e.Random(t, 300_000)
	upload := e2e.Ask{Method: "POST", Path: "/v1/attachments", Token: alice.Token, Media: e2e.Octets,
		Body: string(content)}
	upload.To(t, relay).Want(t, 503, "blobs_unavailable")
	e2e.BackUp(t, alice, 0, content).Want(t, 503, "blobs_unavailable")
	status, parts := e2e.Readiness(t, relay)
	if status != 503 || parts["database"] != "ok" || parts["blobs"] == "ok" || parts["status"] == "ready" {
		t.Errorf("%d %v", status, parts)
	}

	s3.Be(s3test.Fine, "")
	wait.Eventually(t, "the relay is ready",
		func() bool { status, parts := e2e.Readiness(t, relay); return status == 200 && parts["blobs"] == "ok" })
	id := upload.To(t, relay).Want(t, 201, "").Member(t, "id")
	e2e.BackUp(t, alice, 0, content).Want(t, 200, "")
	wantBackup(t, alice, 1, content)
	download := e2e.Ask{Method: "GET", Path: "/v1/attachments/" + id, Token: bob.Token}
	if got := download.To(t, relay).Want(t, 200, ""); !bytes.Equal(got.Body, content) {
		t.Error("it is not what was sent")
	}
	s3.Be(s3test.Fail, "GET")
	download.To(t, relay).Want(t, 503, "blobs_unavailable")
	download.Header = map[string]string{"If-None-Match": "*"} // the store is not asked
	download.To(t, relay).Want(t, 304, "")
	s3.Be(s3test.Fine, "")
	wait.Eventually(t, "nothing is left of what failed", func() bool { return len(s3.Keys(t)) == 2 })
}

func TestAFolderThatIsAwayHoldsUpNothingElse(t *testing.T) {
	t.Parallel()
	place := filepath.Join(t.TempDir(), "mount")
	if err := os.WriteFile(place, nil, 0o600); err != nil { // where a folder should be
		t.Fatal(err)
	}
	relay := relaytest.Start(t, func(c *app.Config) { c.BlobURL = "file://" + place + "/blobs" })
	alice := relay.Register(t).NewDevice(t)
	if failed := alice.Send(t, nil, relaytest.To(alice.ID, "hello")); len(failed) != 0 {
		t.Errorf("%v", failed)
	}
	upload := e2e.Ask{Method: "POST", Path: "/v1/attachments", Token: alice.Token, Media: e2e.Octets,
		Body: "ciphertext"}
	upload.To(t, relay).Want(t, 503, "blobs_unavailable")
	if status, parts := e2e.Readiness(t, relay); status != 503 || parts["blobs"] == "ok" || parts["database"] != "ok" {
		t.Errorf("%d %v", status, parts)
	}
	if want := "the folder " + place + "/blobs: "; !strings.Contains(relay.Log.String(), want) {
		t.Errorf("the log does not name the folder: no %q", want)
	}
	if err := errors.Join(os.Remove(place), os.MkdirAll(filepath.Join(place, "blobs"), 0o700)); err != nil {
		t.Fatal(err)
	}
	upload.To(t, relay).Want(t, 201, "")
	if status, parts := e2e.Readiness(t, relay); status != 200 {
		t.Errorf("%d %v", status, parts)
	}
}
