package contract

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
)

// Headers that the contract does not declare, since HTTP itself, or a browser's protocol, says when
// they are there.
var (
	anyTime = []string{"X-Request-Id", "Date", "Content-Type", "Content-Length", "Connection", "Vary",
		"Strict-Transport-Security"}
	ofStatus = map[string][]int{
		"Allow":                 {http.StatusMethodNotAllowed},
		"Www-Authenticate":      {http.StatusUnauthorized},
		"Upgrade":               {http.StatusSwitchingProtocols, http.StatusUpgradeRequired},
		"Sec-Websocket-Accept":  {http.StatusSwitchingProtocols},
		"Sec-Websocket-Version": {http.StatusUpgradeRequired},
		"Retry-After":           {http.StatusTooManyRequests, http.StatusServiceUnavailable},
	}
	// What a request without Authorization may say to caches.
	ofCaches   = "Cache-Control"
	ofBrowsers = []string{"Access-Control-Allow-Origin", "Access-Control-Allow-Methods", "Access-Control-Allow-Headers",
		"Access-Control-Expose-Headers", "Access-Control-Max-Age"}
)

// checkHeaders looks for headers that nothing declares, and for those that a status must have. The
// input is nil where the contract has no operation. Of a relay that may have grown only Retry-After
// is looked at: the others are our own relay's habit.
func (a *answer) checkHeaders(input *openapi3filter.ResponseValidationInput) {
	retry, err := strconv.Atoi(a.header.Get("Retry-After"))
	due := slices.Contains(ofStatus["Retry-After"], a.status)
	if _, there := a.header["Retry-After"]; (there || due) && (err != nil || retry < 1) {
		a.wrong("Retry-After is not a number of seconds", "%q", a.header["Retry-After"])
	}
	if a.grown {
		return
	}
	var declared openapi3.Headers
	if input != nil {
		declared = input.RequestValidationInput.Route.Operation.Responses.Status(a.status).Value.Headers
		if err := openapi3filter.ValidateResponse(context.Background(), input); err != nil {
			a.wrong("a header that the contract does not allow", "%v", err)
		}
	}
	for name, statuses := range ofStatus {
		_, there := a.header[name]
		if slices.Contains(statuses, a.status) && !there {
			a.wrong("no header "+name, "")
		}
	}
	for name := range a.header {
		due := slices.Contains(anyTime, name) || slices.Contains(ofStatus[name], a.status)
		for own := range declared {
			due = due || strings.EqualFold(own, name)
		}
		if a.request == nil || a.request.Header.Get("Origin") != "" {
			due = due || slices.Contains(ofBrowsers, name)
		}
		if a.request != nil && a.request.Header.Get("Delivery-Token") != "" {
			due = due || name == ofCaches
		}
		if !due {
			a.wrong("undeclared header "+name, "")
		}
	}
}
