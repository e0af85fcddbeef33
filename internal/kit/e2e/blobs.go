package e2e

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"testing"

	"github.com/obscura-relay/obscura/gen/client"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

// Octets is the media type of attachments and backups.
const Octets = "application/octet-stream"

// Random makes ciphertext.
func Random(t testing.TB, size int) []byte {
	t.Helper()
	out := make([]byte, size)
	_, _ = rand.Read(out)
	return out
}

// Attach uploads an attachment that must be accepted.
func Attach(t testing.TB, device *relaytest.Device, content []byte) client.Attachment {
	t.Helper()
	got, err := device.UploadAttachmentWithBodyWithResponse(t.Context(), Octets, bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	if got.JSON201 == nil {
		t.Fatalf("upload: status %d, %s", got.StatusCode(), got.Body)
	}
	return *got.JSON201
}

// Zeros is an endless body.
type Zeros struct{}

// Read implements io.Reader.
func (Zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// BackUp uploads a backup in place of a version, 0 for none.
func BackUp(t testing.TB, device *relaytest.Device, replaces int, content []byte) Reply {
	t.Helper()
	star, tag := "*", fmt.Sprintf(`"%d"`, replaces)
	params := &client.UploadBackupParams{IfMatch: &tag}
	if replaces == 0 {
		params = &client.UploadBackupParams{IfNoneMatch: &star}
	}
	response, err := device.UploadBackupWithBody(t.Context(), params, Octets, bytes.NewReader(content)) //nolint:bodyclose // ReadReply closes it
	if err != nil {
		t.Error(err)
		return Reply{}
	}
	return ReadReply(t, response)
}
