package contract

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
)

// Headers that the contract does not declare, since HTTP itself, or a browser's protocol, says when
// they are there.
var (
	anyTime  = []string{"X-Request-Id", "Date", "Content-Type", "Content-Length", "Connection", "Vary"}
	ofStatus = map[string][]int{
		"Allow":                {http.StatusMethodNotAllowed},
		"Www-Authenticate":     {http.StatusUnauthorized},
		"Upgrade":              {http.StatusSwitchingProtocols, http.StatusUpgradeRequired},
		"Sec-Websocket-Accept": {http.StatusSwitchingProtocols},
		"Retry-After":          {http.StatusTooManyRequests, http.StatusServiceUnavailable},
	}
	ofBrowsers = []string{"Access-Control-Allow-Origin", "Access-Control-Allow-Methods", "Access-Control-Allow-Headers",
		"Access-Control-Expose-Headers", "Access-Control-Max-Age"}
)

// checkHeaders looks for headers that nothing declares, and for those that a status must have.
func (a *answer) checkHeaders(declared openapi3.Headers) {
	for name, statuses := range ofStatus {
		_, there := a.header[name]
		if slices.Contains(statuses, a.status) && !there {
			a.wrong("no header %s", name)
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
		if !due {
			a.wrong("undeclared header %s", name)
		}
	}
	if retry, there := a.header["Retry-After"]; there {
		if seconds, err := strconv.Atoi(retry[0]); err != nil || seconds < 1 {
			a.wrong("Retry-After is %q", retry)
		}
	}
}
