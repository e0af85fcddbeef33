package api

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/google/uuid"
	"github.com/valyala/fasthttp"

	"github.com/obscura-relay/obscura/gen/api"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/core/blob"
)

var errCondition = core.NewError(core.Invalid, "invalid_condition",
	`A backup needs exactly one of If-None-Match: * and If-Match: "<version>".`)

// UploadAttachment is never called: routes.UploadAttachment stands before it.
func (s *server) UploadAttachment(context.Context,
	api.UploadAttachmentRequestObject) (api.UploadAttachmentResponseObject, error) {
	return nil, fiber.ErrInternalServerError
}

// UploadBackup is never called: routes.UploadBackup stands before it.
func (s *server) UploadBackup(context.Context, api.UploadBackupRequestObject) (api.UploadBackupResponseObject, error) {
	return nil, fiber.ErrInternalServerError
}

// HeadBackup is never called: headBackup stands before it.
func (s *server) HeadBackup(context.Context, api.HeadBackupRequestObject) (api.HeadBackupResponseObject, error) {
	return nil, fiber.ErrInternalServerError
}

// UploadAttachment stores an attachment as it arrives, which the strict layer cannot.
func (r routes) UploadAttachment(c *fiber.Ctx) error {
	s, p := r.server, principal(c.UserContext())
	return s.receive(c, 1, core.MaxAttachment,
		func(ctx context.Context, body io.Reader, size int64, answer *fasthttp.Response) error {
			stored, err := s.cfg.Blobs.StoreAttachment(ctx, p, size, body)
			if err != nil {
				return err
			}
			text, err := json.Marshal(api.Attachment{ID: stored.ID, ExpiresAt: stored.ExpiresAt.Unix()})
			answer.SetStatusCode(http.StatusCreated)
			answer.Header.SetContentType(mediaJSON)
			answer.SetBody(text)
			return err
		})
}

// UploadBackup stores a backup as it arrives.
func (r routes) UploadBackup(c *fiber.Ctx, params api.UploadBackupParams) error {
	s, p := r.server, principal(c.UserContext())
	replaces, err := replacedVersion(params)
	if err != nil {
		return err
	}
	return s.receive(c, core.MinBackup, core.MaxBackup,
		func(ctx context.Context, body io.Reader, size int64, answer *fasthttp.Response) error {
			version, err := s.cfg.Blobs.StoreBackup(ctx, p, replaces, size, body)
			if err != nil {
				return err
			}
			setETag(&answer.Header, versionTag(version))
			return nil
		})
}

// noVersion is that of an ETag that no backup ever had.
const noVersion = -1

// replacedVersion is the version that a backup may replace, 0 for none.
func replacedVersion(params api.UploadBackupParams) (int64, error) {
	switch {
	case params.IfMatch == nil && params.IfNoneMatch != nil && *params.IfNoneMatch == "*":
		return 0, nil
	case params.IfNoneMatch == nil && params.IfMatch != nil && *params.IfMatch != "":
		version, err := strconv.ParseInt(strings.Trim(*params.IfMatch, `"`), 10, 64)
		if err == nil && version > 0 && *params.IfMatch == versionTag(version) {
			return version, nil
		}
		return noVersion, nil
	}
	return 0, errCondition
}

func versionTag(version int64) string { return `"` + strconv.FormatInt(version, 10) + `"` }

// DownloadAttachment sends an attachment, or a part of it.
func (s *server) DownloadAttachment(ctx context.Context,
	r api.DownloadAttachmentRequestObject) (api.DownloadAttachmentResponseObject, error) {
	id := r.AttachmentID
	size, err := s.cfg.Blobs.Size(ctx, id)
	if err != nil {
		return nil, err
	}
	return attachment{id: id, size: size, params: r.Params, server: s}, nil
}

// attachment answers with an attachment that there is.
type attachment struct {
	id     uuid.UUID
	size   int64
	params api.DownloadAttachmentParams
	server *server
}

// VisitDownloadAttachmentResponse implements the generated interface.
func (a attachment) VisitDownloadAttachmentResponse(c *fiber.Ctx) error {
	tag := `"` + a.id.String() + `"`
	if unchanged(c, c.Get(fiber.HeaderIfNoneMatch), tag) {
		return nil
	}
	p := part{length: a.size}
	if a.params.Range != nil && (a.params.IfRange == nil || *a.params.IfRange == tag) {
		var ok bool
		if p, ok = parseRange(*a.params.Range, a.size); !ok {
			c.Set(fiber.HeaderContentRange, "bytes */"+strconv.FormatInt(a.size, 10))
			return fiber.ErrRequestedRangeNotSatisfiable
		}
	}
	end, err := a.server.downloads.begin(principal(c.UserContext()))
	if err != nil {
		return err
	}
	r, err := a.server.cfg.Blobs.Download(c.UserContext(), a.id, p.offset, p.length)
	if err != nil {
		end()
		return err
	}
	c.Set(fiber.HeaderAcceptRanges, "bytes")
	if p.partial {
		c.Status(http.StatusPartialContent).Set(fiber.HeaderContentRange, p.contentRange(a.size))
	}
	return send(c, stream{r, end}, tag, p.length)
}

// DownloadBackup sends the device's backup.
func (s *server) DownloadBackup(ctx context.Context,
	r api.DownloadBackupRequestObject) (api.DownloadBackupResponseObject, error) {
	p := principal(ctx)
	b, err := s.cfg.Blobs.Backup(ctx, p.Device)
	return backup{Backup: b, owner: p, params: r.Params, server: s}, err
}

// backup answers with a device's backup.
type backup struct {
	blob.Backup
	owner  core.Principal
	params api.DownloadBackupParams
	server *server
}

// VisitDownloadBackupResponse implements the generated interface.
func (b backup) VisitDownloadBackupResponse(c *fiber.Ctx) error {
	if unchanged(c, c.Get(fiber.HeaderIfNoneMatch), versionTag(b.Version)) {
		return nil
	}
	end, err := b.server.downloads.begin(b.owner)
	if err != nil {
		return err
	}
	current, r, err := b.server.cfg.Blobs.OpenBackup(c.UserContext(), b.owner.Device, b.Backup)
	if err != nil {
		end()
		return err
	}
	return send(c, stream{r, end}, versionTag(current.Version), current.Size)
}

// headBackup says which version there is, and how large it is. It is registered by hand: Fiber's
// GET would answer HEAD.
func (s *server) headBackup(c *fiber.Ctx) error {
	b, err := s.cfg.Blobs.Backup(c.UserContext(), principal(c.UserContext()).Device)
	if err != nil {
		return err
	}
	describe(c, versionTag(b.Version))
	c.Set(fiber.HeaderContentType, mediaOctets)
	c.Response().SkipBody = true
	c.Response().Header.SetContentLength(int(b.Size))
	return nil
}

// setETag spells the header as RFC 9110 does. fasthttp would send Etag, which some clients do not
// find.
func setETag(h *fasthttp.ResponseHeader, tag string) {
	h.SetCanonical([]byte(fiber.HeaderETag), []byte(tag))
}

// describe sets the headers of every answer that has an ETag and a body, or says that the client
// has it.
func describe(c *fiber.Ctx, tag string) {
	setETag(&c.Response().Header, tag)
	c.Set(fiber.HeaderCacheControl, "no-cache")
	c.Set(fiber.HeaderXContentTypeOptions, "nosniff")
}

// unchanged answers 304 when the client has this version (RFC 9110, 13.1.2).
func unchanged(c *fiber.Ctx, ifNoneMatch, tag string) bool {
	for candidate := range strings.SplitSeq(ifNoneMatch, ",") {
		candidate = strings.TrimSpace(candidate)
		if candidate == "*" || strings.TrimPrefix(candidate, "W/") == tag {
			describe(c, tag)
			c.Status(http.StatusNotModified)
			return true
		}
	}
	return false
}

// send streams a blob of size bytes and closes it.
func send(c *fiber.Ctx, body stream, tag string, size int64) error {
	describe(c, tag)
	c.Set(fiber.HeaderContentType, mediaOctets)
	if err := c.Context().SetWriteDeadline(time.Now().Add(blob.TransferTime(size))); err != nil {
		_ = body.Close()
		return err
	}
	c.Context().SetBodyStream(body, int(size))
	return nil
}

// stream is a blob as the HTTP server likes it. A file goes from the disk to the socket without
// passing through the process. The server closes it when it has been sent, and when the connection
// breaks.
type stream struct {
	*blob.Reader
	end func() // of the download
}

// Close implements io.Closer.
func (s stream) Close() error {
	defer s.end()
	return s.Reader.Close()
}

// SupportsBodyWriteTo implements fasthttp.BodyWriterTo.
func (s stream) SupportsBodyWriteTo() bool { return s.File() != nil }

// WriteTo implements io.WriterTo.
func (s stream) WriteTo(w io.Writer) (int64, error) {
	if to, ok := w.(io.ReaderFrom); ok {
		return to.ReadFrom(s.File())
	}
	return io.Copy(w, s.File())
}
