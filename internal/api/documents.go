package api

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"sync"

	"github.com/gofiber/fiber/v2"

	"github.com/obscura-relay/obscura/gen/api"
	"github.com/obscura-relay/obscura/internal/page"
)

const (
	gzipCoding = "gzip"
	mediaHTML  = "text/html; charset=utf-8"
)

// documents are public and the same for everybody, as long as the binary is the same.
type documents struct {
	start, contract, contractJSON, frames, page *document
	files                                       map[string]*document
}

// document is one of them. A packed one is kept compressed, and unpacked for the first client that
// needs that.
type document struct {
	media, policy string
	packed        *form
	plain         func() (form, error)
}

// form is the bytes of a document in one coding, and the ETag that names them.
type form struct {
	data []byte
	etag string
}

func newDocuments(version string, contract, frames []byte) (*documents, error) {
	asJSON, err := api.GetSpecJSON()
	if err != nil {
		return nil, fmt.Errorf("the embedded contract cannot be read: %w", err)
	}
	d := &documents{contract: newDocument("application/yaml", contract), contractJSON: newDocument(mediaJSON, asJSON),
		frames: newDocument("text/plain; charset=utf-8", frames), files: map[string]*document{},
		start: newDocument(mediaHTML, page.Start(version)), page: newDocument(mediaHTML, page.HTML)}
	d.start.policy, d.page.policy = page.Policy, page.Policy
	for name, file := range page.Files {
		d.files[name] = newDocument(file.Media, file.Data)
		if file.Packed {
			d.files[name] = newPackedDocument(file.Media, file.Data)
		}
	}
	return d, nil
}

func newDocument(media string, data []byte) *document {
	plain := newForm(data)
	return &document{media: media, plain: func() (form, error) { return plain, nil }}
}

func newPackedDocument(media string, data []byte) *document {
	packed := newForm(data)
	return &document{media: media, packed: &packed, plain: sync.OnceValues(func() (form, error) {
		r, err := gzip.NewReader(bytes.NewReader(data))
		if err != nil {
			return form{}, err
		}
		plain, err := io.ReadAll(r)
		return newForm(plain), err
	})}
}

func newForm(data []byte) form {
	sum := sha256.Sum256(data)
	return form{data: data, etag: `"` + hex.EncodeToString(sum[:16]) + `"`}
}

// send answers with the form that the client takes, or says that the client has it already.
func (d *document) send(c *fiber.Ctx) error {
	var chosen form
	if d.packed != nil {
		c.Vary(fiber.HeaderAcceptEncoding)
	}
	// Without the header, Fiber takes it that everything is accepted; we take it that nothing is.
	if d.packed != nil && c.Get(fiber.HeaderAcceptEncoding) != "" && c.AcceptsEncodings(gzipCoding) != "" {
		chosen = *d.packed
		c.Set(fiber.HeaderContentEncoding, gzipCoding)
	} else {
		var err error
		if chosen, err = d.plain(); err != nil {
			return err
		}
	}
	// A reload that is forced gets the whole.
	if c.Get(fiber.HeaderCacheControl) != "no-cache" && unchanged(c, c.Get(fiber.HeaderIfNoneMatch), chosen.etag) {
		c.Response().Header.Del(fiber.HeaderContentEncoding)
		return nil
	}
	describe(c, chosen.etag)
	if d.policy != "" {
		c.Set(fiber.HeaderContentSecurityPolicy, d.policy)
	}
	c.Set(fiber.HeaderContentType, d.media)
	c.Response().SetBodyRaw(chosen.data)
	return nil
}

// answer sends a document in place of the generated answers, which know neither conditions nor
// codings.
type answer struct{ *document }

func (a answer) VisitGetStartResponse(c *fiber.Ctx) error        { return a.send(c) }
func (a answer) VisitGetContractResponse(c *fiber.Ctx) error     { return a.send(c) }
func (a answer) VisitGetContractJSONResponse(c *fiber.Ctx) error { return a.send(c) }
func (a answer) VisitGetFramesResponse(c *fiber.Ctx) error       { return a.send(c) }
func (a answer) VisitGetDocsResponse(c *fiber.Ctx) error         { return a.send(c) }
func (a answer) VisitGetDocsFileResponse(c *fiber.Ctx) error     { return a.send(c) }

// GetStart serves the page at the relay's address.
func (s *server) GetStart(context.Context, api.GetStartRequestObject) (api.GetStartResponseObject, error) {
	return answer{s.documents.start}, nil
}

// GetContract serves openapi.yaml.
func (s *server) GetContract(context.Context, api.GetContractRequestObject) (api.GetContractResponseObject, error) {
	return answer{s.documents.contract}, nil
}

// GetContractJSON serves the same contract as JSON.
func (s *server) GetContractJSON(context.Context, api.GetContractJSONRequestObject) (api.GetContractJSONResponseObject,
	error) {
	return answer{s.documents.contractJSON}, nil
}

// GetFrames serves obscura.proto.
func (s *server) GetFrames(context.Context, api.GetFramesRequestObject) (api.GetFramesResponseObject, error) {
	return answer{s.documents.frames}, nil
}

// GetDocs serves the API reference.
func (s *server) GetDocs(context.Context, api.GetDocsRequestObject) (api.GetDocsResponseObject, error) {
	return answer{s.documents.page}, nil
}

// GetDocsFile serves what the API reference loads.
func (s *server) GetDocsFile(_ context.Context, r api.GetDocsFileRequestObject) (api.GetDocsFileResponseObject, error) {
	d := s.documents.files[r.Name]
	if d == nil {
		return nil, fiber.ErrNotFound
	}
	return answer{d}, nil
}
