package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/gofiber/fiber/v2"

	"github.com/obscura-relay/obscura/internal/core"
)

// maxJSONBody bounds JSON bodies. The largest honest one, 200 one-time keys, takes about 250 kB.
const maxJSONBody = 512 << 10

// maxJSONDepth bounds how deep a JSON body nests; the contract needs three. maxJSONTokens bounds
// what it costs in memory: small values take thirty times their text. The largest honest body has
// about 1,500.
const (
	maxJSONDepth  = 16
	maxJSONTokens = 4096
)

var (
	errMedia     = core.NewError(core.Invalid, "unsupported_media_type", "This needs another Content-Type.")
	errJSON      = core.NewError(core.Invalid, "invalid_json", "The body is not valid JSON.")
	errDuplicate = core.NewError(core.Invalid, "duplicate_member", "A JSON object has a member of the contract twice.")
	errBodySize  = core.NewError(core.TooLarge, "body_too_large", "The body is too large.")
)

// validatedBody is the local that the generated code binds instead of parsing the body again: what
// is bound is what was validated, and names match exactly.
const validatedBody = "x-oapi-codegen-validated-body"

// canonicalUUID is the text form of RFC 9562.
var canonicalUUID = regexp.MustCompile(`^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$`)

func init() {
	openapi3.DefineStringFormatValidator("uuid", openapi3.NewRegexpFormatValidator(canonicalUUID.String()))
}

func errParameter(name string) error {
	return core.NewError(core.Invalid, "invalid_request", "The parameter "+name+" does not match the contract.")
}

// validateParameters checks the parameters that are there against their schemas.
func validateParameters(c *fiber.Ctx, op *operation) error {
	for _, p := range op.parameters {
		var text string
		var err error
		switch p.In {
		case openapi3.ParameterInQuery:
			if !validQuery(c, p) {
				return errParameter(p.Name)
			}
		case openapi3.ParameterInPath:
			text, err = url.PathUnescape(c.Params(p.Name))
		case openapi3.ParameterInHeader:
			text = c.Get(p.Name)
		}
		if text == "" && err == nil { // the generated code refuses those that must not be absent
			continue
		}
		if err == nil && p.Schema.Value.VisitJSON(text) == nil {
			continue
		}
		switch p.Name {
		case fiber.HeaderIfMatch, fiber.HeaderIfNoneMatch:
			return errCondition
		default:
			return errParameter(p.Name)
		}
	}
	return nil
}

// validQuery checks a parameter of the query that may be repeated.
func validQuery(c *fiber.Ctx, p *openapi3.Parameter) bool {
	texts := c.Context().QueryArgs().PeekMulti(p.Name)
	if len(texts) == 0 || !p.Schema.Value.Type.Is(openapi3.TypeArray) {
		return true
	}
	values := make([]any, len(texts))
	for i, text := range texts {
		values[i] = string(text)
	}
	return p.Schema.Value.VisitJSON(values) == nil
}

// validateBody checks media type and size of a body, and a JSON one against its schema. Binary
// bodies are checked by their decoder.
func validateBody(c *fiber.Ctx, op *operation) error {
	if err := validateMedia(c, op); err != nil {
		return err
	}
	if body, ok := c.Locals(asideKey).(aside); ok && body.refused != nil {
		return body.refused
	}
	if op.schema == nil {
		return nil
	}
	value, err := decodeJSON(c.Request().Body(), op.names) // c.Body() would decompress it
	if err != nil {
		return err
	}
	if err := op.schema.VisitJSON(value, openapi3.VisitAsRequest()); err != nil {
		return schemaError(err)
	}
	c.Locals(validatedBody, value)
	return nil
}

// validateMedia checks what a body is said to be, where there is to be one.
func validateMedia(c *fiber.Ctx, op *operation) error {
	if op.media == "" {
		return nil
	}
	// Octets need no name: many programs send none with them.
	if header := c.Get(fiber.HeaderContentType); header != "" || op.media != mediaOctets {
		media, _, err := mime.ParseMediaType(header)
		if err != nil || media != op.media {
			return errMedia
		}
	}
	if coding := c.Get(fiber.HeaderContentEncoding); coding != "" && coding != "identity" {
		return errMedia // a small compressed body may be a huge one (RFC 9110, 15.5.16)
	}
	return nil
}

// schemaError says which rule was broken where, and never what was sent.
func schemaError(err error) error {
	sentence := "The body does not match the contract."
	var broken *openapi3.SchemaError
	if errors.As(err, &broken) {
		where := strings.Join(broken.JSONPointer(), ".")
		if where == "" {
			where = "the body"
		}
		sentence = fmt.Sprintf("The body does not match the contract: %s breaks the rule %q.", where,
			broken.SchemaField)
	}
	return core.NewError(core.Invalid, "invalid_request", sentence)
}

// decodeJSON decodes a body and refuses input that decoders read differently: a member of the
// contract that stands twice, in any case, and anything after the value. names are the folded names
// of the contract; of another member that stands twice the last one is kept, and ignored. A member
// that is null counts as absent.
func decodeJSON(body []byte, names map[string]bool) (any, error) {
	if !utf8.Valid(body) || loneSurrogate(body) { // encoding/json would put U+FFFD there, and make two texts one
		return nil, errJSON
	}
	d := &jsonDecoder{Decoder: *json.NewDecoder(bytes.NewReader(body)), names: names}
	value, err := decodeValue(d, 0)
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errJSON
	}
	return value, nil
}

// loneSurrogate reports an escaped half of a UTF-16 pair without the other (RFC 8259, 8.2).
func loneSurrogate(body []byte) bool {
	high := false
	for i := 0; i < len(body); i++ {
		var unit rune
		if body[i] == '\\' {
			if i++; i+4 < len(body) && body[i] == 'u' {
				n, _ := strconv.ParseUint(string(body[i+1:i+5]), 16, 16) // what is no number is refused later
				unit = rune(n)
				i += 4
			}
		}
		low := unit >= 0xdc00 && unit < 0xe000
		if high != low {
			return true
		}
		high = unit >= 0xd800 && unit < 0xdc00
	}
	return high
}

// jsonDecoder counts the tokens that it gives, and knows the folded names of the contract.
type jsonDecoder struct {
	json.Decoder
	names  map[string]bool
	tokens int
}

func (d *jsonDecoder) next() (json.Token, error) {
	if d.tokens++; d.tokens > maxJSONTokens {
		return nil, errBodySize
	}
	token, err := d.Token()
	if err != nil {
		return nil, errJSON
	}
	return token, nil
}

func decodeValue(d *jsonDecoder, depth int) (any, error) {
	token, err := d.next()
	if err != nil {
		return nil, err
	}
	if depth > maxJSONDepth {
		return nil, errJSON
	}
	switch token {
	case json.Delim('{'):
		return decodeObject(d, depth)
	case json.Delim('['):
		list := []any{}
		for d.More() {
			value, err := decodeValue(d, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, value)
		}
		if _, err := d.next(); err != nil {
			return nil, err
		}
		return list, nil
	}
	return token, nil
}

// foldName makes names equal that encoding/json takes for one. It folds by simple case folding;
// upper of lower covers its two odd letters too.
func foldName(name string) string { return strings.ToUpper(strings.ToLower(name)) }

func decodeObject(d *jsonDecoder, depth int) (any, error) {
	object, folded := map[string]any{}, map[string]bool{}
	for d.More() {
		token, err := d.next()
		if err != nil {
			return nil, err
		}
		name, ok := token.(string)
		if !ok {
			return nil, errJSON
		}
		if fold := foldName(name); d.names[fold] {
			if folded[fold] {
				return nil, errDuplicate
			}
			folded[fold] = true
		}
		value, err := decodeValue(d, depth+1)
		if err != nil {
			return nil, err
		}
		if value != nil {
			object[name] = value
		}
	}
	if _, err := d.next(); err != nil {
		return nil, err
	}
	return object, nil
}
