package bench

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/url"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	obscura "github.com/obscura-relay/obscura/clients/go"
)

// httpTimeout bounds a request. The relay answers well before; what takes longer is an error.
const httpTimeout = 30 * time.Second

// maxWait bounds how long a refused request waits before it is tried again.
const maxWait = 5 * time.Second

// api calls the relay over kept-alive connections.
type api struct {
	base   *url.URL
	client *fasthttp.HostClient
}

func newAPI(base string, conns int) (*api, error) {
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errors.New("--url must look like http://127.0.0.1:3000")
	}
	return &api{base: u, client: &fasthttp.HostClient{
		Addr: withPort(u), IsTLS: u.Scheme == "https", MaxConns: conns,
		// Its own dialer keeps a goroutine for ever.
		Dial: func(addr string) (net.Conn, error) {
			return net.DialTimeout("tcp", addr, httpTimeout)
		},
		NoDefaultUserAgentHeader: true, MaxIdleConnDuration: time.Minute,
		// A request that got no answer is an error to be counted, not one to be hidden by a
		// repetition.
		MaxIdemponentCallAttempts: 1,
		ReadTimeout:               httpTimeout, WriteTimeout: httpTimeout,
	}}, nil
}

func withPort(u *url.URL) string {
	if u.Port() != "" {
		return u.Host
	}
	if u.Scheme == "https" {
		return u.Host + ":443"
	}
	return u.Host + ":80"
}

func (a *api) close() { a.client.CloseIdleConnections() }

// comeBack reports whether the relay asks to try again, and after how long.
func comeBack(err error) (after time.Duration, asked bool) {
	var refusal *obscura.Error
	if !errors.As(err, &refusal) || refusal.Status != fasthttp.StatusTooManyRequests &&
		refusal.Status != fasthttp.StatusServiceUnavailable {
		return 0, false
	}
	return max(refusal.RetryAfter, 100*time.Millisecond), true
}

const (
	jsonBody     = "application/json"
	protobufBody = "application/x-protobuf"
)

// do sends one request and calls read with the body of a successful answer, which is only valid
// there. The error of an answered request is an *obscura.Error.
func (a *api) do(method, path, token, contentType string, body []byte, read func([]byte) error) error {
	request, response := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(request)
	defer fasthttp.ReleaseResponse(response)
	request.Header.SetMethod(method)
	request.SetRequestURI(path)
	request.SetHost(a.base.Host)
	if a.base.Scheme == "https" {
		request.URI().SetScheme("https")
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	if contentType != "" {
		request.Header.SetContentType(contentType)
		request.SetBodyRaw(body)
	}
	if err := a.client.DoTimeout(request, response, httpTimeout); err != nil {
		return err
	}
	if status := response.StatusCode(); status < 200 || status > 299 {
		return refused(response)
	}
	if read == nil {
		return nil
	}
	return read(response.Body())
}

func refused(response *fasthttp.Response) *obscura.Error {
	e := &obscura.Error{Status: response.StatusCode()}
	var answer struct{ Code string }
	if json.Unmarshal(response.Body(), &answer) == nil {
		e.Code = answer.Code
	}
	if seconds, err := strconv.Atoi(string(response.Header.Peek("Retry-After"))); err == nil {
		e.RetryAfter = time.Duration(seconds) * time.Second
	}
	return e
}

// call sends JSON and reads JSON; in and out may be nil.
func (a *api) call(method, path, token string, in, out any) error {
	var body []byte
	contentType := ""
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return err
		}
		contentType = jsonBody
	}
	return a.do(method, path, token, contentType, body, func(answer []byte) error {
		if out == nil {
			return nil
		}
		return json.Unmarshal(answer, out)
	})
}

// insist calls until the relay neither is busy nor limits the rate, or ctx ends.
func insist(ctx context.Context, call func() error) error {
	for {
		err := call()
		after, asked := comeBack(err)
		if !asked || pause(ctx, min(after, maxWait)) != nil {
			return err
		}
	}
}

// pause waits for some time or for the end of ctx.
func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
