package obscura

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/gen/client"
)

const octets = "application/octet-stream"

// Attachment is what the relay says of an upload.
type Attachment struct {
	// ID names it for everybody who has a device: tell it in a message, with the key.
	ID uuid.UUID
	// ExpiresAt is when the relay deletes it, 30 days after the upload.
	ExpiresAt time.Time
}

// UploadAttachment stores 1 byte to 50 MiB of ciphertext, the first size bytes of content. It is
// streamed. After a lost answer there may be an attachment that nobody knows of, until it expires.
// Codes: quota_exceeded, body_too_large, rate_limited.
func (s *Session) UploadAttachment(ctx context.Context, content io.ReaderAt, size int64) (Attachment, error) {
	response, err := s.blobs.UploadAttachmentWithBody(ctx, octets, nil, carries(content, size))
	var stored client.Attachment
	if err := read(response, err, &stored); err != nil {
		return Attachment{}, err
	}
	return Attachment{ID: stored.ID, ExpiresAt: time.Unix(stored.ExpiresAt, 0)}, nil
}

// DownloadAttachment writes an attachment to a writer and returns its size. When the connection
// breaks it goes on where it was. After an error what was written so far is the beginning of the
// attachment. Codes: not_found.
func (s *Session) DownloadAttachment(ctx context.Context, id uuid.UUID, to io.Writer) (int64, error) {
	etag := strconv.Quote(id.String())
	var written int64
	for wait := (backoff{}); ; {
		params := &client.DownloadAttachmentParams{}
		if written > 0 {
			rest := "bytes=" + strconv.FormatInt(written, 10) + "-"
			params.Range, params.IfRange = &rest, &etag
		}
		response, err := s.blobs.DownloadAttachment(ctx, id, params)
		if err != nil {
			return written, err
		}
		done, n, err := pour(response, to, written)
		if written += n; done || err != nil && !errors.Is(err, errNoAnswer) {
			return written, err
		}
		if n > 0 {
			wait = backoff{} // it goes on
		}
		if err := wait.pause(ctx, err); err != nil {
			return written, err
		}
	}
}

// pour writes the bytes of an answer to a writer. It reports whether those were the last ones; an
// error that wraps errNoAnswer says that the connection broke.
func pour(response *http.Response, to io.Writer, from int64) (done bool, n int64, err error) {
	defer response.Body.Close()
	switch {
	case response.StatusCode >= http.StatusBadRequest:
		return true, 0, read(response, nil, nil)
	case from > 0 && !strings.HasPrefix(response.Header.Get("Content-Range"), "bytes "+strconv.FormatInt(from, 10)+"-"):
		return true, 0, errors.New("the relay's answer cannot be read: it is not the part that was asked for")
	}
	in := &source{Reader: response.Body}
	n, err = io.Copy(to, in)
	switch {
	case in.err != nil:
		return false, n, lost(in.err)
	case err != nil:
		return true, n, fmt.Errorf("the attachment cannot be written: %w", err)
	}
	return true, n, nil
}

// source remembers why reading ended, which io.Copy does not tell from why writing did.
type source struct {
	io.Reader
	err error
}

// Read implements io.Reader.
func (s *source) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

// UploadBackup stores the device's backup, 32 bytes to 2 MiB of ciphertext, and returns its
// version. replaced is the version that it replaces, empty for the first. One of several uploads at
// once wins. After a lost answer ask for the BackupVersion. Codes: precondition_failed (another
// version is stored: fetch it first), upload_running.
func (s *Session) UploadBackup(ctx context.Context, content io.ReaderAt, size int64,
	replaced string) (version string, err error) {
	params, first := &client.UploadBackupParams{}, "*"
	if replaced == "" {
		params.IfNoneMatch = &first
	} else {
		params.IfMatch = &replaced
	}
	response, err := s.blobs.UploadBackupWithBody(ctx, params, octets, nil, carries(content, size))
	if err := read(response, err, nil); err != nil {
		return "", err
	}
	return response.Header.Get("ETag"), nil
}

// Backup returns the device's backup and its version. Codes: not_found.
func (s *Session) Backup(ctx context.Context) (content []byte, version string, err error) {
	response, err := s.api.DownloadBackup(ctx, &client.DownloadBackupParams{})
	if err := read(response, err, &content); err != nil {
		return nil, "", err
	}
	return content, response.Header.Get("ETag"), nil
}

// BackupVersion returns the version and size of the device's backup without its bytes. Status 404
// says that there is none.
func (s *Session) BackupVersion(ctx context.Context) (version string, size int64, err error) {
	response, err := s.api.HeadBackup(ctx)
	if err := read(response, err, nil); err != nil {
		return "", 0, err
	}
	return response.Header.Get("ETag"), response.ContentLength, nil
}

// carries gives a request a body that can be sent more than once.
func carries(content io.ReaderAt, size int64) client.RequestEditorFn {
	return func(_ context.Context, request *http.Request) error {
		request.ContentLength = size
		if size == 0 { // without a body there is a length: the relay says that this is too little
			request.Body, request.GetBody = http.NoBody, nil
			return nil
		}
		request.GetBody = func() (io.ReadCloser, error) {
			return io.NopCloser(io.NewSectionReader(content, 0, size)), nil
		}
		return nil
	}
}
