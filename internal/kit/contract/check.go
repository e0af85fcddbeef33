// Package contract holds what a relay answers against openapi.yaml and obscura.proto. It is for
// tests and tools, whoever they talk to; the relay itself does not use it.
//
// Invariant: what the contract does not declare is wrong: a status, a header, a media type, a
// member of a body, a field of a message. It reports what it finds, in sentences, and never fails
// by itself.
package contract

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
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

// Check returns what is wrong with an answer: its status, headers or body. The request is nil when
// the relay could not read it.
func Check(request *http.Request, response *http.Response, body []byte) []string {
	a := answer{request: request, status: response.StatusCode, header: response.Header, body: body}
	if uuid.Validate(a.header.Get("X-Request-Id")) != nil {
		a.wrong("x-request-id is not a UUID")
	}
	if a.status >= http.StatusBadRequest {
		a.checkError()
	}
	if request == nil {
		if !slices.Contains(unread, a.status) {
			a.wrong("no answer to what cannot be read")
		}
		a.checkHeaders(nil)
		return a.found
	}
	router, err := closed()
	if err != nil {
		a.wrong("the contract cannot be read: %v", err)
		return a.found
	}
	plain := &http.Request{Method: request.Method, URL: &url.URL{Path: request.URL.Path}, Header: request.Header}
	route, params, err := find(router, plain)
	if err != nil {
		a.checkUnknown(router)
		return a.found
	}
	declared := route.Operation.Responses.Status(a.status)
	if declared == nil {
		a.wrong("undeclared status, body %s", body)
		return a.found
	}
	a.checkHeaders(declared.Value.Headers)
	a.checkBody(declared.Value, &openapi3filter.RequestValidationInput{Request: plain, PathParams: params,
		Route: route})
	return a.found
}

// answer is one that is being checked.
type answer struct {
	request *http.Request
	status  int
	header  http.Header
	body    []byte
	found   []string
}

func (a *answer) wrong(format string, args ...any) {
	where := "an unread request"
	if a.request != nil {
		where = a.request.Method + " " + a.request.URL.Path
	}
	a.found = append(a.found, fmt.Sprintf("%s, status %d: %s", where, a.status, fmt.Sprintf(format, args...)))
}

// checkError holds every error, also on paths that do not exist, against the shape of errors.
func (a *answer) checkError() {
	if media := a.header.Get("Content-Type"); media != mediaJSON {
		a.wrong("Content-Type %q", media)
	}
	if a.request != nil && a.request.Method == http.MethodHead {
		return
	}
	var e map[string]string
	if err := json.Unmarshal(a.body, &e); err != nil || len(e) != 2 || e["error"] == "" || e["code"] == "" {
		a.wrong("not an error body: %q", a.body)
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
	if a.status != due && !preflight && !slices.Contains(unread, a.status) {
		a.wrong("the contract does not name it, so %d is due", due)
	}
	a.checkHeaders(nil)
}

// checkBody checks the body, and the values of headers.
func (a *answer) checkBody(declared *openapi3.Response, input *openapi3filter.RequestValidationInput) {
	media, _, _ := strings.Cut(a.header.Get("Content-Type"), ";")
	if len(declared.Content) == 0 {
		if len(a.body) != 0 {
			a.wrong("a body where none is declared: %q", a.body)
		}
	} else if declared.Content[media] == nil {
		a.wrong("undeclared Content-Type %q", media)
		return
	}
	if media == mediaProtobuf {
		kind := protobufBodies[input.Route.Operation.OperationID]
		if kind == nil {
			a.wrong("nobody said which message this is")
			return
		}
		m := kind.ProtoReflect().New()
		if err := proto.Unmarshal(a.body, m.Interface()); err != nil || Undeclared(m.Interface()) {
			a.wrong("not a %s: %v, %x", m.Descriptor().Name(), err, a.body)
		}
	}
	err := openapi3filter.ValidateResponse(context.Background(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: input, Status: a.status, Header: a.header, Body: io.NopCloser(bytes.NewReader(a.body)),
		Options: &openapi3filter.Options{ExcludeResponseBody: media != mediaJSON}})
	if err != nil {
		a.wrong("%v\n%s", err, a.body)
	}
}
