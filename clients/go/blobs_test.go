package obscura_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	obscura "github.com/obscura-relay/obscura/clients/go"
	"github.com/obscura-relay/obscura/gen/client"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

func random(n int) []byte {
	out := make([]byte, n)
	_, _ = rand.Read(out)
	return out
}

func refused(t *testing.T, err error, status int, code string) {
	t.Helper()
	var e *obscura.Error
	if !errors.As(err, &e) || e.Status != status || e.Code != code {
		t.Errorf("%v, want %d %s", err, status, code)
	}
}

func TestAnAttachmentGoesThereAndBack(t *testing.T) {
	t.Parallel()
	relay, _ := join(t, relaytest.Start(t), obscura.Options{})
	alice, bob := newDevice(t, relay), newDevice(t, relay)
	content := random(3 << 20)
	stored, err := alice.UploadAttachment(t.Context(), bytes.NewReader(content), int64(len(content)))
	if err != nil || time.Until(stored.ExpiresAt) < 29*24*time.Hour {
		t.Fatalf("%+v, %v", stored, err)
	}
	var got bytes.Buffer
	if n, err := bob.DownloadAttachment(t.Context(), stored.ID, &got); err != nil || n != int64(len(content)) ||
		!bytes.Equal(got.Bytes(), content) {
		t.Errorf("%d bytes came back, %v", n, err)
	}
	_, err = alice.UploadAttachment(t.Context(), bytes.NewReader(nil), 0)
	refused(t, err, http.StatusBadRequest, "body_too_small")
	_, err = bob.DownloadAttachment(t.Context(), uuid.New(), io.Discard)
	refused(t, err, http.StatusNotFound, "attachment_not_found")
}

// breaking cuts the bodies of downloads off, as often as it is told.
type breaking struct {
	next  http.RoundTripper
	times atomic.Int32
	asked atomic.Pointer[string] // the last Range
}

func (b *breaking) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := b.next.RoundTrip(request)
	if err != nil || !strings.Contains(request.URL.Path, "/v1/attachments/") {
		return response, err
	}
	part := request.Header.Get("Range")
	b.asked.Store(&part)
	if b.times.Add(-1) >= 0 {
		response.Body = &cutOff{ReadCloser: response.Body, left: 100_000}
	}
	return response, nil
}

type cutOff struct {
	io.ReadCloser
	left int
}

func (c *cutOff) Read(p []byte) (int, error) {
	if c.left == 0 {
		return 0, errNetwork
	}
	n, err := c.ReadCloser.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

func TestADownloadGoesOnWhereItBroke(t *testing.T) {
	t.Parallel()
	r := relaytest.Start(t)
	network := &breaking{next: r.HTTP().Transport}
	network.times.Store(2)
	relay, err := obscura.New(r.API, obscura.Options{HTTPClient: &http.Client{Transport: network}})
	if err != nil {
		t.Fatal(err)
	}
	alice := newDevice(t, relay)
	content := random(300_000)
	stored, err := alice.UploadAttachment(t.Context(), bytes.NewReader(content), int64(len(content)))
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if n, err := alice.DownloadAttachment(t.Context(), stored.ID, &got); err != nil || n != int64(len(content)) ||
		!bytes.Equal(got.Bytes(), content) {
		t.Errorf("%d bytes came back, %v", n, err)
	}
	if asked := *network.asked.Load(); asked != "bytes=200000-" {
		t.Errorf("the last request asked for %q", asked)
	}
}

// full is a disk without room.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no room") }

func TestADownloadEndsWhenItCannotBeWritten(t *testing.T) {
	t.Parallel()
	relay, _ := join(t, relaytest.Start(t), obscura.Options{})
	alice := newDevice(t, relay)
	stored, err := alice.UploadAttachment(t.Context(), strings.NewReader("ciphertext"), 10)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := alice.DownloadAttachment(t.Context(), stored.ID, full{}); err == nil ||
		!strings.Contains(err.Error(), "no room") {
		t.Errorf("%v", err)
	}
}

func TestABackupIsReplacedByWhoKnowsItsVersion(t *testing.T) {
	t.Parallel()
	relay, _ := join(t, relaytest.Start(t), obscura.Options{})
	alice := newDevice(t, relay)
	_, _, err := alice.BackupVersion(t.Context())
	refused(t, err, http.StatusNotFound, "")
	one, two := random(1000), random(2000)
	first, err := alice.UploadBackup(t.Context(), bytes.NewReader(one), 1000, "")
	if err != nil || first == "" {
		t.Fatalf("%q, %v", first, err)
	}
	_, err = alice.UploadBackup(t.Context(), bytes.NewReader(two), 2000, "")
	refused(t, err, http.StatusPreconditionFailed, "precondition_failed")
	second, err := alice.UploadBackup(t.Context(), bytes.NewReader(two), 2000, first)
	if err != nil || second == first {
		t.Fatalf("%q, %v", second, err)
	}
	content, version, err := alice.Backup(t.Context())
	if err != nil || version != second || !bytes.Equal(content, two) {
		t.Errorf("version %q, %d bytes, %v", version, len(content), err)
	}
	if version, size, err := alice.BackupVersion(t.Context()); err != nil || version != second || size != 2000 {
		t.Errorf("version %q, %d bytes, %v", version, size, err)
	}
}

func TestADeviceSaysHowItIsWokenUp(t *testing.T) {
	t.Parallel()
	relay, _ := join(t, relaytest.Start(t), obscura.Options{})
	alice := newDevice(t, relay)
	if key, err := alice.VapidKey(t.Context()); err != nil || len(key) != 87 {
		t.Errorf("%q, %v", key, err)
	}
	token, none := "a token of an app", ""
	for _, want := range []int{1, 0} {
		if want == 1 {
			if err := alice.SetPushToken(t.Context(), client.PushToken{Token: &token}); err != nil {
				t.Fatal(err)
			}
		} else if err := alice.DeletePushToken(t.Context()); err != nil {
			t.Fatal(err)
		}
		account, err := alice.API().GetAccountWithResponse(t.Context())
		if err != nil || (account.JSON200.Devices[0].PushToken != nil) != (want == 1) {
			t.Errorf("%+v, %v", account, err)
		}
	}
	refused(t, alice.SetPushToken(t.Context(), client.PushToken{Token: &none}), http.StatusBadRequest,
		"invalid_request")
}
