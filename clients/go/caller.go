package obscura

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
)

const (
	// backoffFirst and backoffLongest bound the random waits between tries.
	backoffFirst   = time.Second
	backoffLongest = time.Minute
)

// errNoAnswer marks the errors of requests that the relay may have got and answered.
var errNoAnswer = errors.New("no answer from the relay")

// lost marks an error of the network. It leaves out the URL, which may hold a ticket.
func lost(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	return fmt.Errorf("%w: %w", errNoAnswer, err)
}

// caller makes the requests of a generated client: with a fresh access token, if it has tokens, and
// again and again, if that is harmless.
type caller struct {
	http   *http.Client
	tokens *keeper
	// streams leaves the body of an answer to be read by whoever asked.
	streams bool
	// sealed calls are repeated without tokens.
	sealed bool
}

// Do implements client.HttpRequestDoer. The body of the response has been read already, unless the
// caller streams.
func (c *caller) Do(request *http.Request) (*http.Response, error) {
	refused := "" // the token that got a 401: it is renewed once
	spent := request.Body != nil && request.GetBody == nil
	for wait := (backoff{}); ; {
		token := ""
		if c.tokens != nil {
			var err error
			if token, err = c.tokens.get(request.Context(), refused); err != nil {
				return nil, err
			}
		}
		response, err := c.try(request, token)
		switch {
		case response != nil && spent: // the caller's reader is empty now
			return response, nil
		case spent:
			return nil, err
		case stale(err) && token != "" && refused == "":
			refused = token
		case (token != "" || c.sealed) && passes(err) && repeatable(request):
			if err := wait.pause(request.Context(), err); err != nil {
				return nil, err
			}
		case response != nil:
			return response, nil
		default:
			return nil, err
		}
	}
}

// try makes a request once. An answer of failure is returned twice, as it is and as an *Error.
func (c *caller) try(request *http.Request, token string) (*http.Response, error) {
	request = request.Clone(request.Context())
	if request.GetBody != nil {
		var err error
		if request.Body, err = request.GetBody(); err != nil {
			return nil, err
		}
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := c.http.Do(request) //nolint:gosec // to the relay that the caller names
	if err != nil {
		return nil, lost(err)
	}
	if c.streams && response.StatusCode < http.StatusBadRequest {
		return response, nil
	}
	body, err := io.ReadAll(response.Body)
	_ = response.Body.Close()
	if err != nil {
		return nil, lost(err)
	}
	response.Body = io.NopCloser(bytes.NewReader(body))
	if response.StatusCode >= http.StatusBadRequest {
		return response, failure(response, body)
	}
	return response, nil
}

// repeatable reports whether a request that arrives twice does what it does once. A bundle fetch
// would use up further keys.
func repeatable(request *http.Request) bool {
	path := request.URL.Path
	switch request.Method {
	case http.MethodGet, http.MethodHead:
		return !strings.Contains(path, "/v1/users/") || strings.HasSuffix(path, "/devices")
	case http.MethodPut, http.MethodDelete:
		return strings.HasSuffix(path, "/v1/push-tokens")
	case http.MethodPost:
		return strings.HasSuffix(path, "/v1/messages") || strings.HasSuffix(path, "/v1/messages/sealed") ||
			strings.HasSuffix(path, "/v1/delivery-tokens") || strings.HasSuffix(path, "/v1/devices/keys") ||
			strings.HasSuffix(path, "/v1/gateway/ticket")
	}
	return false
}

// read reads the answer of a generated call into a message, or into what JSON fits in, or nowhere.
func read(response *http.Response, err error, out any) error {
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body) // from memory, see try
	if err != nil {
		return err
	}
	if response.StatusCode >= http.StatusMultipleChoices {
		return failure(response, body)
	}
	switch out := out.(type) {
	case nil:
	case *[]byte:
		*out = body
	case proto.Message:
		// An empty answer says that all is stored, so it must be one of the relay.
		if !strings.HasPrefix(response.Header.Get("Content-Type"), protobuf) {
			return errors.New("something other than the relay has answered")
		}
		err = proto.Unmarshal(body, out)
	default:
		err = json.Unmarshal(body, out)
	}
	if err != nil {
		return fmt.Errorf("the relay's answer cannot be read: %w", err)
	}
	return nil
}

// passes reports whether the same request may be answered better later.
func passes(err error) bool {
	if e := refusal(err); e != nil {
		return e.Status == http.StatusRequestTimeout || e.Status == http.StatusTooManyRequests || e.Status >= 500 &&
			e.Status < 1000
	}
	return errors.Is(err, errNoAnswer)
}

// undecided reports whether a request that failed may have been done all the same.
func undecided(err error) bool {
	if e := refusal(err); e != nil {
		return e.Status >= http.StatusInternalServerError
	}
	var network *net.OpError
	return errors.Is(err, errNoAnswer) && (!errors.As(err, &network) || network.Op != "dial")
}

// stale reports whether an access token was refused, rather than a password, a refresh token or a
// ticket.
func stale(err error) bool {
	e := refusal(err)
	return e != nil && e.Status == http.StatusUnauthorized && e.Code == "unauthorized"
}

// backoff counts the tries that failed in a row.
type backoff struct{ failed int }

// next returns how long to wait after a try that failed with err.
func (b *backoff) next(err error) time.Duration {
	if e := refusal(err); e != nil && e.RetryAfter > 0 {
		return e.RetryAfter + rand.N(e.RetryAfter)
	}
	longest := min(backoffFirst<<b.failed, backoffLongest)
	b.failed = min(b.failed+1, 6)
	return rand.N(longest)
}

// pause waits before the next try. When the relay wants more time than ctx has it returns err at
// once.
func (b *backoff) pause(ctx context.Context, err error) error {
	wait := b.next(err)
	if deadline, bounded := ctx.Deadline(); bounded {
		if e := refusal(err); e != nil && time.Until(deadline) < e.RetryAfter {
			return err
		}
	}
	if ended := sleep(ctx, wait); ended != nil {
		return fmt.Errorf("%w, after: %w", ended, err)
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
