package obscura

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/obscura-relay/obscura/gen/client"
)

var (
	// ErrSessionEnded says that the refresh token is good for nothing any more: log in again. The
	// session logged out, was ended by a change of password, a removal or a takeover of its device,
	// or was not used for 30 days; or its refresh token was used elsewhere. After a change of
	// password it comes with an *Error of the code password_changed: tell the user.
	ErrSessionEnded = errors.New("the session has ended")
	// ErrRevoked says that the relay closed the gateway (4401) because the session has ended. It
	// comes with ErrSessionEnded.
	ErrRevoked = errors.New("the gateway was closed: the session is revoked")
	// ErrDisplaced says that a newer socket of the same device displaced this one (4409). Two
	// programs that both reconnect would displace each other for ever, so this package does not.
	ErrDisplaced = errors.New("the gateway was closed: a newer socket of this device is open")
)

// Error is an answer of the relay other than success.
type Error struct {
	// Status is the HTTP status, or the close code (1000 and above) of a gateway that ended.
	Status int
	// Code is for programs: a stable word, see docs/protocol.md. Empty when something other than
	// the relay answered, and for close codes.
	Code string
	// Message is a sentence for a person.
	Message string
	// RetryAfter is how long the relay asks to wait, in whole seconds; 0 when it did not say. It
	// comes with 429 and 503.
	RetryAfter time.Duration
	// RequestID is what the relay's log calls the request.
	RequestID string
}

// Error implements error.
func (e *Error) Error() string {
	return strings.TrimRight(fmt.Sprintf("the relay answered %d %s: %s", e.Status, e.Code, e.Message), ": ")
}

// refusal is the answer of the relay in an error, nil when there is none.
func refusal(err error) *Error {
	var e *Error
	_ = errors.As(err, &e) // e says it
	return e
}

// failure reads the answer of a request that was refused.
func failure(response *http.Response, body []byte) *Error {
	e := &Error{Status: response.StatusCode, RequestID: response.Header.Get("X-Request-Id")}
	var told client.ErrorBody
	if json.Unmarshal(body, &told) == nil {
		e.Code, e.Message = told.Code, told.Error
	}
	if seconds, err := strconv.Atoi(response.Header.Get("Retry-After")); err == nil && seconds > 0 {
		e.RetryAfter = time.Duration(seconds) * time.Second
	}
	return e
}
