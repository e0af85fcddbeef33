// Package pushprovider hands wake-ups to FCM, to APNs and to the push services of Web Push.
//
// Invariants: every wake-up of a kind is the same, byte for byte before encryption and in length
// after it; redirects are not followed, answers are read up to a bound, and nothing that leaves
// this package holds a token, an endpoint, a key or what a service said. On failure it says whether
// to try again.
package pushprovider

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"code.dny.dev/ssrf"

	"github.com/obscura-relay/obscura/internal/core/push"
)

const (
	// lifetime is how long a service keeps a wake-up for a device that it cannot reach.
	lifetime = 24 * time.Hour
	// maxAnswer bounds what is read of an answer.
	maxAnswer = 16 << 10
)

// client makes a client that follows nobody and reads no more than it must.
func client(transport *http.Transport) *http.Client {
	transport.TLSHandshakeTimeout = 10 * time.Second
	transport.ResponseHeaderTimeout = 10 * time.Second
	transport.MaxResponseHeaderBytes = maxAnswer
	transport.IdleConnTimeout = time.Minute
	transport.ForceAttemptHTTP2 = true
	transport.DisableCompression = true
	return &http.Client{
		Transport:     bounded{transport},
		Timeout:       15 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// bounded cuts answers off.
type bounded struct{ *http.Transport }

// RoundTrip implements http.RoundTripper.
func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := b.Transport.RoundTrip(r)
	if err == nil {
		response.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(response.Body, maxAnswer), response.Body}
	}
	return response, err
}

// failed is the result of a request that had no answer.
func failed(err error) push.Result {
	for _, refused := range []error{ssrf.ErrProhibitedIP, ssrf.ErrProhibitedPort, ssrf.ErrProhibitedNetwork} {
		if errors.Is(err, refused) {
			return push.Result{Outcome: push.Rejected, Reason: "the address is not a public one"}
		}
	}
	var timeout interface{ Timeout() bool }
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout() {
		return push.Result{Outcome: push.Failed, Reason: "no answer in time"}
	}
	return push.Result{Outcome: push.Failed, Reason: "no connection, or none that lasted"}
}

// answered is the result of a status of which a service does not say more.
func answered(response *http.Response) push.Result {
	r := push.Result{Outcome: push.Rejected, Reason: "status " + strconv.Itoa(response.StatusCode)}
	switch status := response.StatusCode; {
	case status >= 200 && status < 300:
		r.Outcome = push.Delivered
	case status == http.StatusTooManyRequests || status == http.StatusRequestTimeout || status >= 500:
		r.Outcome = push.Failed
		r.RetryAfter = retryAfter(response.Header.Get("Retry-After"))
	}
	return r
}

// retryAfter reads RFC 9110, 10.2.3.
func retryAfter(text string) time.Duration {
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, time.Until(at))
	}
	return 0
}

// finish reads what is left, so that the connection can be used again, and closes.
func finish(response *http.Response) {
	_, _ = io.Copy(io.Discard, response.Body)
	_ = response.Body.Close()
}
