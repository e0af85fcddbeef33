package conform

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"
	"github.com/google/uuid"

	"github.com/obscura-relay/obscura"
)

// validator is a transport that holds every answer against the embedded contract. What is more than
// the contract says (further members and headers) is allowed: it may grow.
//
// internal/kit/contract is for our own relay and allows nothing more; it also says what it saw.
type validator struct {
	next   http.RoundTripper
	below  string // the path under which the relay lives, mostly ""
	doc    *openapi3.T
	router routers.Router

	mu       sync.Mutex
	findings map[string]int // guarded by mu: what was wrong, and how often
}

func newValidator(next http.RoundTripper, below string) (*validator, error) {
	doc, err := openapi3.NewLoader().LoadFromData(obscura.OpenAPI)
	if err != nil {
		return nil, fmt.Errorf("the embedded contract: %w", err)
	}
	router, err := legacy.NewRouter(doc)
	if err != nil {
		return nil, fmt.Errorf("the embedded contract: %w", err)
	}
	return &validator{next: next, below: below, doc: doc, router: router, findings: map[string]int{}}, nil
}

// RoundTrip implements http.RoundTripper.
func (v *validator) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := v.next.RoundTrip(request)
	if err != nil || response.StatusCode == http.StatusSwitchingProtocols {
		return response, err
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	_ = response.Body.Close()
	if err != nil {
		return nil, err
	}
	response.Body = io.NopCloser(bytes.NewReader(body))
	path := strings.TrimPrefix(request.URL.Path, v.below)
	where := request.Method + " " + ids.ReplaceAllString(path, "{id}") + " " + strconv.Itoa(response.StatusCode)
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, wrong := range v.check(request.Method, path, response, body) {
		v.findings[where+": "+wrong]++
	}
	return response, nil
}

// check returns what is wrong with an answer, and repeats nothing of it.
func (v *validator) check(method, path string, response *http.Response, body []byte) (wrong []string) {
	if uuid.Validate(response.Header.Get("X-Request-Id")) != nil {
		wrong = append(wrong, "x-request-id is not a UUID")
	}
	if method == http.MethodHead {
		return wrong // which has no body
	}
	if response.StatusCode >= 400 {
		wrong = append(wrong, checkError(response, body)...)
	}
	route, _, err := v.router.FindRoute(&http.Request{Method: method, URL: &url.URL{Path: path}})
	if err != nil {
		return wrong // what is not of the contract has errors of the same shape, and no more rules
	}
	declared := route.Operation.Responses.Status(response.StatusCode)
	if declared == nil && missing(response.StatusCode) && optional(path) {
		return wrong
	}
	if declared == nil {
		return append(wrong, "the contract does not know this status here")
	}
	if len(declared.Value.Content) == 0 {
		if len(body) != 0 {
			wrong = append(wrong, "a body where the contract has none")
		}
		return wrong
	}
	media, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type"))
	content := declared.Value.Content[media]
	if content == nil {
		return append(wrong, "another Content-Type than the contract's")
	}
	if media == jsonMedia {
		wrong = append(wrong, checkSchema(content.Schema.Value, body)...)
	}
	return wrong
}

func checkSchema(schema *openapi3.Schema, body []byte) []string {
	var value any
	if json.Unmarshal(body, &value) != nil {
		return []string{"the body is not JSON"}
	}
	err := schema.VisitJSON(value, openapi3.VisitAsResponse())
	var broken *openapi3.SchemaError
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &broken):
		return []string{"the body does not match the contract"}
	}
	where := strings.Join(broken.JSONPointer(), ".")
	if where == "" {
		where = "the body"
	}
	return []string{fmt.Sprintf("%s breaks the rule %q of the contract", where, broken.SchemaField)}
}

// checkError holds an error against the shape of all errors, also on paths that do not exist.
func checkError(response *http.Response, body []byte) (wrong []string) {
	var e struct{ Error, Code *string }
	if json.Unmarshal(body, &e) != nil || e.Error == nil || e.Code == nil || *e.Error == "" || *e.Code == "" {
		wrong = append(wrong, `the body is not {"error", "code"}`)
	}
	seconds, err := strconv.Atoi(response.Header.Get("Retry-After"))
	needed := response.StatusCode == http.StatusTooManyRequests || response.StatusCode == http.StatusServiceUnavailable
	if needed && (err != nil || seconds < 1) {
		wrong = append(wrong, "Retry-After is not a number of seconds")
	}
	return wrong
}

// verdict judges all answers of the run.
func (v *validator) verdict() verdict {
	const shown = 5
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.findings) == 0 {
		return verdict{result: Pass}
	}
	var lines []string
	for _, finding := range slices.Sorted(maps.Keys(v.findings)) {
		lines = append(lines, fmt.Sprintf("%s (%d times)", finding, v.findings[finding]))
	}
	if more := len(lines) - shown; more > 0 {
		lines = append(lines[:shown], fmt.Sprintf("and %d other things", more))
	}
	return verdict{Fail, strings.Join(lines, "; ")}
}
