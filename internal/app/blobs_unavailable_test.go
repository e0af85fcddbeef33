package app_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/obscura-relay/obscura/internal/app"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
	"github.com/obscura-relay/obscura/internal/kit/s3test"
	"github.com/obscura-relay/obscura/internal/kit/testdb"
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
	content := random(t, 300_000)
	upload := ask{method: "POST", path: "/v1/attachments", token: alice.Token, media: octets, body: string(content)}
	upload.to(t, relay).want(t, 503, "blobs_unavailable")
	backUp(t, alice, 0, content).want(t, 503, "blobs_unavailable")
	status, parts := readiness(t, relay)
	if status != 503 || parts["database"] != "ok" || parts["blobs"] == "ok" || parts["status"] == "ready" {
		t.Errorf("%d %v", status, parts)
	}

	s3.Be(s3test.Fine, "")
	relaytest.Eventually(t, "the relay is ready", func() bool { status, parts := readiness(t, relay); return status == 200 && parts["blobs"] == "ok" })
	id := upload.to(t, relay).want(t, 201, "").member(t, "id")
	backUp(t, alice, 0, content).want(t, 200, "")
	wantBackup(t, alice, 1, content)
	download := ask{method: "GET", path: "/v1/attachments/" + id, token: bob.Token}
	if got := download.to(t, relay).want(t, 200, ""); !bytes.Equal(got.body, content) {
		t.Error("it is not what was sent")
	}
	s3.Be(s3test.Fail, "GET")
	download.to(t, relay).want(t, 503, "blobs_unavailable")
	download.header = map[string]string{"If-None-Match": "*"} // the store is not asked
	download.to(t, relay).want(t, 304, "")
	s3.Be(s3test.Fine, "")
	relaytest.Eventually(t, "nothing is left of what failed", func() bool { return len(s3.Keys(t)) == 2 })
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
	upload := ask{method: "POST", path: "/v1/attachments", token: alice.Token, media: octets, body: "ciphertext"}
	upload.to(t, relay).want(t, 503, "blobs_unavailable")
	if status, parts := readiness(t, relay); status != 503 || parts["blobs"] == "ok" || parts["database"] != "ok" {
		t.Errorf("%d %v", status, parts)
	}
	if err := errors.Join(os.Remove(place), os.MkdirAll(filepath.Join(place, "blobs"), 0o700)); err != nil {
		t.Fatal(err)
	}
	upload.to(t, relay).want(t, 201, "")
	if status, parts := readiness(t, relay); status != 200 {
		t.Errorf("%d %v", status, parts)
	}
}

func TestAFolderThatDoesNotExistIsRefusedAndNotMade(t *testing.T) {
	t.Parallel()
	place := filepath.Join(t.TempDir(), "blbos")
	cfg := relaytest.Config(t, testdb.NewURL(t))
	cfg.BlobURL = "file://" + place
	want := "the folder " + place + ", which --blob-url (OBSCURA_BLOB_URL) names, does not exist: make it, or correct the name"
	if got := refused(t, cfg); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if _, err := os.Stat(place); err == nil {
		t.Error("it was made")
	}
}
