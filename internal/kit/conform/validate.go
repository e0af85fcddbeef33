package conform

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/obscura-relay/obscura/internal/kit/contract"
)

// validator is a transport that holds every answer against the embedded contract. What is more than
// the contract says is allowed: it may grow.
type validator struct {
	next  http.RoundTripper
	below string // the path under which the relay lives, mostly ""

	mu       sync.Mutex
	findings map[string]int // guarded by mu: what was wrong, and how often
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
	for _, found := range contract.CheckGrown(&http.Request{Method: request.Method, URL: &url.URL{Path: path}},
		response, body) {
		if found.Wrong == contract.UndeclaredStatus && missing(response.StatusCode) && optional(path) {
			continue
		}
		v.findings[where+": "+found.Wrong]++
	}
	return response, nil
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
