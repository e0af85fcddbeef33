package relaytest

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"
	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/gen/api"
)

// contract is the embedded contract, closed: a field that a schema does not name is an error.
var contract = sync.OnceValues(func() (routers.Router, error) {
	spec, err := api.GetSpec()
	if err != nil {
		return nil, err
	}
	for _, schema := range spec.Components.Schemas {
		if schema.Value.Type.Is("object") {
			closed := false
			schema.Value.AdditionalProperties = openapi3.AdditionalProperties{Has: &closed}
		}
	}
	return legacy.NewRouter(spec)
})

// undeclared headers that HTTP itself, or a browser's protocol, puts there.
var ofHTTP = []string{"Date", "Content-Type", "Content-Length", "Connection", "Allow", "Www-Authenticate", "Vary",
	"Access-Control-Allow-Origin", "Access-Control-Allow-Methods", "Access-Control-Allow-Headers",
	"Access-Control-Expose-Headers", "Access-Control-Max-Age", "Upgrade", "Sec-Websocket-Accept"}

// validator is a transport that holds every answer against the contract.
type validator struct {
	t    testing.TB
	next http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (v *validator) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := v.next.RoundTrip(request)
	if err != nil || response.StatusCode == http.StatusSwitchingProtocols {
		return response, err
	}
	body, err := io.ReadAll(response.Body)
	_ = response.Body.Close()
	if err != nil {
		return nil, err
	}
	response.Body = io.NopCloser(bytes.NewReader(body))
	v.check(request, response, body)
	return response, nil
}

func (v *validator) check(request *http.Request, response *http.Response, body []byte) {
	v.t.Helper()
	where := request.Method + " " + request.URL.Path + " " + strconv.Itoa(response.StatusCode)
	if uuid.Validate(response.Header.Get("X-Request-Id")) != nil {
		v.t.Errorf("%s: x-request-id is not a UUID", where)
	}
	if response.StatusCode >= 400 {
		v.checkError(where, response, body)
	}
	router, err := contract()
	if err != nil {
		v.t.Fatal(err)
	}
	plain := &http.Request{Method: request.Method, URL: &url.URL{Path: request.URL.Path}, Header: request.Header}
	route, params, err := router.FindRoute(plain)
	if err != nil { // a path or method that the contract does not name
		if response.StatusCode != http.StatusNotFound && response.StatusCode != http.StatusMethodNotAllowed && request.Method != http.MethodOptions {
			v.t.Errorf("%s: the contract does not name it", where)
		}
		return
	}
	declared := route.Operation.Responses.Status(response.StatusCode)
	if declared == nil {
		v.t.Errorf("%s: undeclared status, body %s", where, body)
		return
	}
	for name := range response.Header {
		_, named := declared.Value.Headers[strings.ToLower(name)]
		_, namedAsIs := declared.Value.Headers[name]
		if !named && !namedAsIs && !slices.Contains(ofHTTP, name) {
			v.t.Errorf("%s: undeclared header %s", where, name)
		}
	}
	if len(declared.Value.Content) == 0 {
		if len(body) != 0 {
			v.t.Errorf("%s: a body where none is declared: %q", where, body)
		}
		return
	}
	media, _, _ := strings.Cut(response.Header.Get("Content-Type"), ";")
	content := declared.Value.Content[media]
	if content == nil {
		v.t.Errorf("%s: undeclared Content-Type %s", where, media)
		return
	}
	if media != "application/json" {
		return
	}
	input := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: plain, PathParams: params, Route: route},
		Status:                 response.StatusCode, Header: response.Header, Body: io.NopCloser(bytes.NewReader(body)),
	}
	if err := openapi3filter.ValidateResponse(v.t.Context(), input); err != nil {
		v.t.Errorf("%s: the answer breaks the contract: %v\n%s", where, err, body)
	}
}

// checkError holds every error, also on paths that do not exist, against the shape of errors.
func (v *validator) checkError(where string, response *http.Response, body []byte) {
	v.t.Helper()
	var e map[string]string
	if err := json.Unmarshal(body, &e); err != nil || len(e) != 2 || e["error"] == "" || e["code"] == "" {
		v.t.Errorf("%s: not an error body: %q", where, body)
	}
	retry := response.Header.Get("Retry-After")
	needed := response.StatusCode == http.StatusTooManyRequests || response.StatusCode == http.StatusServiceUnavailable
	if seconds, err := strconv.Atoi(retry); needed && (err != nil || seconds < 1) {
		v.t.Errorf("%s: Retry-After is %q", where, retry)
	}
}
