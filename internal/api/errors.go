package api

import (
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"github.com/obscura-relay/obscura/gen/api"
	"github.com/obscura-relay/obscura/internal/core"
)

// statuses turns kinds into statuses. An error without a kind, or of one that is missing here, is a
// 500 without detail.
//
//exhaustive:enforce
var statuses = map[core.Kind]int{
	core.Invalid:      http.StatusBadRequest,
	core.Unauthorized: http.StatusUnauthorized,
	core.Forbidden:    http.StatusForbidden,
	core.NotFound:     http.StatusNotFound,
	core.Conflict:     http.StatusConflict,
	core.Unmet:        http.StatusPreconditionFailed,
	core.TooLarge:     http.StatusRequestEntityTooLarge,
	core.Limited:      http.StatusTooManyRequests,
	core.Unavailable:  http.StatusServiceUnavailable,
}

// ofFramework are the errors that Fiber makes itself: their texts may repeat the input and are not
// used.
var ofFramework = map[int]api.ErrorBody{
	http.StatusBadRequest: {Code: "invalid_request", Error: "The request is malformed."},
	http.StatusNotFound:   {Code: "not_found", Error: "There is nothing at this path."},
	http.StatusMethodNotAllowed: {Code: "method_not_allowed",
		Error: "This path does not know this method."},
	http.StatusRequestTimeout:               {Code: "request_timeout", Error: "The request did not arrive in time."},
	http.StatusLengthRequired:               {Code: "length_required", Error: "A Content-Length is required."},
	http.StatusRequestEntityTooLarge:        {Code: "body_too_large", Error: "The body is too large."},
	http.StatusRequestedRangeNotSatisfiable: {Code: "range_not_satisfiable", Error: "There is no such part."},
	http.StatusUpgradeRequired:              {Code: "upgrade_required", Error: "This needs a WebSocket upgrade."},
	http.StatusRequestHeaderFieldsTooLarge:  {Code: "headers_too_large", Error: "The request headers are too large."},
}

var internalError = api.ErrorBody{Code: "internal", Error: "The relay failed."}

// handleError answers with an error.
func handleError(c *fiber.Ctx, err error) {
	setRequestID(c)
	writeError(c.Response(), err)
}

// writeError is the only place where an error becomes an answer.
func writeError(answer *fasthttp.Response, err error) {
	status, body, retry := answerTo(err)
	if retry > 0 {
		answer.Header.Set(fiber.HeaderRetryAfter, strconv.Itoa(int(math.Ceil(retry.Seconds()))))
	}
	switch status {
	case http.StatusUnauthorized:
		answer.Header.Set(fiber.HeaderWWWAuthenticate, "Bearer")
	case http.StatusUpgradeRequired: // RFC 9110, 15.5.22; RFC 6455, 4.4
		answer.Header.Set(fiber.HeaderUpgrade, "websocket")
		answer.Header.Set(fiber.HeaderSecWebSocketVersion, "13")
		answer.Header.Set(fiber.HeaderConnection, "Upgrade")
	}
	text, _ := json.Marshal(body) // two texts
	answer.SetStatusCode(status)
	answer.Header.SetContentType(mediaJSON)
	answer.SetBody(text)
}

// missingHeader ends what the generated code says of a header that must not be absent; before it is
// the header's name in the contract.
const missingHeader = " is required, but not found"

func answerTo(err error) (status int, body api.ErrorBody, retry time.Duration) {
	var ours *core.Error
	if errors.As(err, &ours) {
		status, known := statuses[ours.Kind]
		if !known {
			return http.StatusInternalServerError, internalError, 0
		}
		if ours == errMedia { // the one error whose status its kind does not say
			status = http.StatusUnsupportedMediaType
		}
		return status, api.ErrorBody{Code: ours.Code, Error: ours.Sentence}, ours.RetryAfter
	}
	var theirs *fiber.Error
	if errors.As(err, &theirs) {
		switch {
		case theirs.Code == http.StatusBadGateway: // Fiber's name for a connection that broke
			return http.StatusBadRequest, ofFramework[http.StatusBadRequest], 0
		case strings.HasSuffix(theirs.Message, missingHeader):
			name := strings.TrimSuffix(strings.TrimPrefix(theirs.Message, "Header parameter "), missingHeader)
			return http.StatusBadRequest, api.ErrorBody{Code: "invalid_request", Error: "The header " + name + " is missing."}, 0
		case ofFramework[theirs.Code].Code != "":
			return theirs.Code, ofFramework[theirs.Code], 0
		}
	}
	return http.StatusInternalServerError, internalError, 0
}
