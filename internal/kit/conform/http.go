package conform

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const (
	jsonMedia     = "application/json"
	protobufMedia = "application/x-protobuf"

	// putOff bounds how long a request that the relay puts off is tried again.
	putOff = time.Minute
	// maxAnswer bounds what is read of an answer.
	maxAnswer = 8 << 20
)

// request is one call.
type request struct {
	method, path string
	token        string
	media        string
	body         []byte
	header       map[string]string
	// chunked sends the body without saying how long it is.
	chunked bool
	// raw: 429 and 503 are answers like others. Else they are waited out, as Retry-After says.
	raw bool
	// unwaited is the code of a 429 that is an answer like others.
	unwaited string
}

// answer is what came back.
type answer struct {
	t      *try
	asked  string // method and path, without ids
	status int
	header http.Header
	body   []byte
}

// call sends JSON, or nothing.
func (t *try) call(method, path, token string, in any) *answer {
	r := request{method: method, path: path, token: token}
	if in != nil {
		body, err := json.Marshal(in)
		t.must(err == nil, "cannot write the body: %v", err)
		r.media, r.body = jsonMedia, body
	}
	return t.send(r)
}

// send sends a request, again and again when the relay puts it off.
func (t *try) send(r request) *answer {
	deadline := time.Now().Add(putOff)
	for {
		ctx := t.ctx
		if r.method != http.MethodGet {
			// what is given up may happen all the same, behind the back of the cleaning up
			ctx = context.WithoutCancel(ctx)
		}
		a, err := t.exchange(ctx, r)
		t.must(err == nil, "%s: no answer: %v", asked(r), bare(err))
		a.t = t
		pause, later := a.putOff()
		if !later || r.raw || r.unwaited != "" && a.code() == r.unwaited {
			return a
		}
		t.must(time.Now().Add(pause).Before(deadline), "%s is still answered %d, after %v of waiting as told", a.asked,
			a.status, putOff)
		t.wait(pause)
	}
}

// exchange is one request and one answer.
func (k *kit) exchange(ctx context.Context, r request) (*answer, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*patience)
	defer cancel()
	out, err := http.NewRequestWithContext(ctx, r.method, k.base+r.path, bytes.NewReader(r.body))
	if err != nil {
		return nil, err
	}
	if r.chunked {
		out.ContentLength = -1
	}
	if r.token != "" {
		out.Header.Set("Authorization", "Bearer "+r.token)
	}
	if r.media != "" {
		out.Header.Set("Content-Type", r.media)
	}
	for name, value := range r.header {
		out.Header.Set(name, value)
	}
	in, err := k.http.Do(out)
	if err != nil {
		return nil, err
	}
	defer func() { _ = in.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(in.Body, maxAnswer))
	if err != nil {
		return nil, err
	}
	k.keepSecrets(body)
	return &answer{asked: asked(r), status: in.StatusCode, header: in.Header, body: body}, nil
}

var (
	ids     = regexp.MustCompile(`[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}`)
	oneCode = regexp.MustCompile(`^[a-z][a-z0-9_]{0,40}$`)
)

// asked names a request without its ids and without its query, which may hold a ticket.
func asked(r request) string {
	path, _, _ := strings.Cut(r.path, "?")
	return r.method + " " + ids.ReplaceAllString(path, "{id}")
}

// bare takes the URL out of an error.
func bare(err error) error {
	var withURL *url.Error
	if errors.As(err, &withURL) {
		return withURL.Err
	}
	return err
}

// putOff reports whether the relay asks to come back, and when.
func (a *answer) putOff() (time.Duration, bool) {
	if a.status != http.StatusTooManyRequests && a.status != http.StatusServiceUnavailable {
		return 0, false
	}
	seconds, err := strconv.Atoi(a.header.Get("Retry-After"))
	if err != nil {
		seconds = 1
	}
	return time.Duration(min(max(seconds, 1), 86_400)) * time.Second, true
}

// want fails unless the answer has this status.
func (a *answer) want(status int, when string) *answer {
	a.t.must(a.status == status, "%s %s: %s, want %d", a.asked, when, a.said(), status)
	return a
}

// wantError is want for an answer whose body must be an error.
func (a *answer) wantError(status int, when string) *answer {
	a.want(status, when)
	a.t.must(a.code() != "", "%s %s: %d without {\"error\", \"code\"}", a.asked, when, status)
	return a
}

// code is the stable code of an error, "" when the body is not one.
func (a *answer) code() string {
	var e struct{ Error, Code string }
	if json.Unmarshal(a.body, &e) != nil || e.Error == "" {
		return ""
	}
	return e.Code
}

// said is status and code, for a reason.
func (a *answer) said() string {
	if code := a.code(); oneCode.MatchString(code) {
		return strconv.Itoa(a.status) + " " + code
	}
	return strconv.Itoa(a.status)
}

// into decodes the body of an answer.
func into[T any](a *answer) T {
	var out T
	err := json.Unmarshal(a.body, &out)
	a.t.must(err == nil, "%s: the body does not decode", a.asked)
	return out
}
