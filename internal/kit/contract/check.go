// Package contract holds what a relay answers against openapi.yaml and obscura.proto. It is for
// tests, tools and `obscura conform`; the relay itself does not use it.
//
// Invariant: what the contract does not declare is wrong: a status, a header, a media type, a
// member of a body, a field of a message. CheckGrown is milder, for relays of others. It reports
// what it finds, in sentences, and never fails by itself.
package contract

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
)

const (
	mediaJSON     = "application/json"
	mediaProtobuf = "application/x-protobuf"
)

// unread are the answers to a request that was not read to its end, whatever it was for.
var unread = []int{http.StatusBadRequest, http.StatusRequestTimeout, http.StatusRequestEntityTooLarge,
	http.StatusRequestHeaderFieldsTooLarge}

// Check returns what is wrong with an answer of our own relay, which is all that the contract does
// not declare. The request is nil when the relay could not read it.
func Check(request *http.Request, response *http.Response, body []byte) []string {
	a := answer{request: request, status: response.StatusCode, header: response.Header, body: body}
	where := "an unread request"
	if request != nil {
		where = request.Method + " " + request.URL.Path
	}
	found := a.check()
	sentences := make([]string, len(found))
	for i, f := range found {
		sentences[i] = strings.TrimSpace(fmt.Sprintf("%s, status %d: %s %s", where, a.status, f.Wrong, f.Seen))
	}
	return sentences
}

// CheckGrown returns what is wrong with an answer of a relay that may have grown: it may have
// headers, members and paths more, and protobuf is not looked into.
func CheckGrown(request *http.Request, response *http.Response, body []byte) []Finding {
	a := answer{request: request, status: response.StatusCode, header: response.Header, body: body, grown: true}
	return a.check()
}

// Finding is one thing that is wrong with an answer.
type Finding struct {
	Wrong string // repeats nothing of the answer
	Seen  string // may repeat all of it
}

// UndeclaredStatus is what is wrong with a status that the contract does not have for an operation.
const UndeclaredStatus = "undeclared status"

// answer is one that is being checked.
type answer struct {
	request *http.Request
	status  int
	header  http.Header
	body    []byte
	grown   bool // what is more than the contract has is allowed
	found   []Finding
}

func (a *answer) wrong(what, format string, args ...any) {
	a.found = append(a.found, Finding{what, fmt.Sprintf(format, args...)})
}

func (a *answer) check() []Finding {
	if uuid.Validate(a.header.Get("X-Request-Id")) != nil {
		a.wrong("x-request-id is not a UUID", "")
	}
	if a.status >= http.StatusBadRequest {
		a.checkError()
	}
	if a.request == nil {
		if !slices.Contains(unread, a.status) {
			a.wrong("no answer to what cannot be read", "")
		}
		a.checkHeaders(nil)
		return a.found
	}
	router, err := router(a.grown)
	if err != nil {
		a.wrong("the contract cannot be read", "%v", err)
		return a.found
	}
	plain := &http.Request{Method: a.request.Method, URL: &url.URL{Path: a.request.URL.Path}, Header: a.request.Header}
	route, params, err := find(router, plain)
	if err != nil {
		a.checkUnknown(router)
		return a.found
	}
	declared := route.Operation.Responses.Status(a.status)
	if declared == nil {
		a.wrong(UndeclaredStatus, "body %s", a.body)
		return a.found
	}
	a.checkHeaders(&openapi3filter.ResponseValidationInput{Status: a.status, Header: a.header,
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: plain, PathParams: params,
			Route: route},
		Options: &openapi3filter.Options{ExcludeResponseBody: true}})
	a.checkBody(declared.Value, route.Operation.OperationID)
	return a.found
}

// checkError holds every error, also on paths that do not exist, against the shape of errors.
func (a *answer) checkError() {
	if media := a.header.Get("Content-Type"); media != mediaJSON && !a.grown {
		a.wrong("the Content-Type of an error", "%q", media)
	}
	if a.request != nil && a.request.Method == http.MethodHead {
		return
	}
	var e map[string]any
	err := json.Unmarshal(a.body, &e)
	sentence, _ := e["error"].(string)
	code, _ := e["code"].(string)
	if err != nil || len(e) != 2 && !a.grown || sentence == "" || code == "" {
		a.wrong(`not an error body, {"error", "code"}:`, "%q", a.body)
	}
}

// find looks for the operation of a request, more exactly than the router, which takes a path with
// a slash at its end for the one without, and a literal path without the method for one with
// parameters.
func find(router routers.Router, request *http.Request) (*routers.Route, map[string]string, error) {
	if path := request.URL.Path; path != "/" && strings.HasSuffix(path, "/") {
		return nil, nil, routers.ErrPathNotFound
	}
	route, params, err := router.FindRoute(request)
	if err == nil && route.Path != request.URL.Path && route.Spec.Paths.Value(request.URL.Path) != nil {
		err = routers.ErrMethodNotAllowed
	}
	return route, params, err
}

// checkUnknown checks the answer where the contract has no operation.
func (a *answer) checkUnknown(router routers.Router) {
	due := http.StatusNotFound
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch,
		http.MethodDelete} {
		if _, _, err := find(router,
			&http.Request{Method: method, URL: &url.URL{Path: a.request.URL.Path}}); err == nil {
			due = http.StatusMethodNotAllowed
		}
	}
	preflight := a.request.Method == http.MethodOptions && a.status == http.StatusNoContent &&
		a.request.Header.Get("Origin") != ""
	if a.status != due && !preflight && !slices.Contains(unread, a.status) && !a.grown {
		a.wrong(fmt.Sprintf("the contract does not name it, so %d is due", due), "")
	}
	a.checkHeaders(nil)
}

// checkBody checks the body of an answer that is declared.
func (a *answer) checkBody(declared *openapi3.Response, operation string) {
	if len(declared.Content) == 0 && len(a.body) != 0 {
		a.wrong("a body where none is declared", "%q", a.body)
	}
	if len(declared.Content) == 0 || a.request.Method == http.MethodHead {
		return
	}
	media, _, _ := mime.ParseMediaType(a.header.Get("Content-Type"))
	content := declared.Content[media]
	switch {
	case content == nil:
		a.wrong("undeclared Content-Type", "%q", media)
	case media == mediaJSON:
		a.checkSchema(content.Schema.Value)
	case media == mediaProtobuf && !a.grown:
		a.checkProtobuf(operation)
	}
}

func (a *answer) checkSchema(schema *openapi3.Schema) {
	var value any
	if err := json.Unmarshal(a.body, &value); err != nil {
		a.wrong("the body is not JSON", "%v\n%s", err, a.body)
		return
	}
	err := schema.VisitJSON(value, openapi3.VisitAsResponse(),
		openapi3.WithStringFormatValidator("uuid", canonicalUUID))
	if err == nil {
		return
	}
	where, rule := "the body", "schema"
	var broken *openapi3.SchemaError
	if errors.As(err, &broken) {
		where, rule = cmp.Or(strings.Join(broken.JSONPointer(), "."), where), broken.SchemaField
	}
	a.wrong(fmt.Sprintf("%s breaks the rule %q of the contract", where, rule), "%v\n%s", err, a.body)
}

func (a *answer) checkProtobuf(operation string) {
	kind := protobufBodies[operation]
	if kind == nil {
		a.wrong("nobody said which message this is", "")
		return
	}
	m := kind.ProtoReflect().New()
	if err := proto.Unmarshal(a.body, m.Interface()); err != nil || Undeclared(m.Interface()) {
		a.wrong("not a "+string(m.Descriptor().Name()), "%v, %x", err, a.body)
	}
}
