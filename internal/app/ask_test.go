package app_test

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

// ask is a request by hand: what the generated client cannot be brought to send.
type ask struct {
	method, path, token string
	// media is the Content-Type of body; JSON when empty, none when "-".
	media, body string
	header      map[string]string
}

// reply is its answer.
type reply struct {
	status int
	header http.Header
	body   []byte
	// code and sentence are those of an error.
	code, sentence string
}

// to sends the request to a relay; the answer is held against the contract.
func (a ask) to(t testing.TB, relay *relaytest.Relay) reply {
	t.Helper()
	return a.through(t, relay.API, relay.HTTP())
}

func (a ask) through(t testing.TB, url string, client *http.Client) reply {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), a.method, url+a.path, strings.NewReader(a.body))
	if err != nil {
		t.Fatal(err)
	}
	switch {
	case a.media == "" && a.body != "":
		request.Header.Set("Content-Type", "application/json")
	case a.media != "" && a.media != "-":
		request.Header.Set("Content-Type", a.media)
	}
	if a.token != "" {
		request.Header.Set("Authorization", "Bearer "+a.token)
	}
	for name, value := range a.header {
		request.Header[name] = []string{value} // as it stands, without normalisation
	}
	response, err := client.Do(request) //nolint:bodyclose // readReply closes it
	if err != nil {                     // not Fatal: many ask from goroutines of their own, and somebody waits for their reply
		t.Errorf("%s %s: %v", a.method, a.path, err)
		return reply{}
	}
	return readReply(t, response)
}

func readReply(t testing.TB, response *http.Response) reply {
	t.Helper()
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Error(err)
	}
	r := reply{status: response.StatusCode, header: response.Header, body: body}
	var e struct{ Error, Code string }
	if r.status >= http.StatusBadRequest && json.Unmarshal(body, &e) == nil {
		r.code, r.sentence = e.Code, e.Error
	}
	return r
}

// want fails the test unless the answer has this status and, for an error, this code.
func (r reply) want(t testing.TB, status int, code string) reply {
	t.Helper()
	if r.status != status || r.code != code {
		t.Errorf("status %d, code %q; want %d, %q: %s", r.status, r.code, status, code, r.body)
	}
	return r
}

// member reads a text member of a JSON answer.
func (r reply) member(t testing.TB, name string) string {
	t.Helper()
	var object map[string]any
	if err := json.Unmarshal(r.body, &object); err != nil {
		t.Fatalf("not JSON: %s", r.body)
	}
	text, _ := object[name].(string)
	return text
}

// object writes a JSON object of text members: name, value, name, value.
func object(pairs ...string) string {
	members := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		members[pairs[i]] = pairs[i+1]
	}
	text, _ := json.Marshal(members)
	return string(text)
}

// wire is a bare TCP connection to a relay's API.
type wire struct {
	net.Conn
	t testing.TB
	r *bufio.Reader
}

func dialWire(t testing.TB, relay *relaytest.Relay) *wire {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(relay.API, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(relaytest.Patience))
	return &wire{Conn: conn, t: t, r: bufio.NewReader(conn)}
}

// send writes raw bytes.
func (w *wire) send(text string) {
	w.t.Helper()
	if _, err := io.WriteString(w, text); err != nil {
		w.t.Fatal(err)
	}
}

// reply reads one answer to a request that the relay cannot read.
func (w *wire) reply() reply {
	w.t.Helper()
	return w.read(nil)
}

// replyTo reads the answer to a request that was sent whole.
func (w *wire) replyTo(method, path string) reply {
	w.t.Helper()
	return w.read(&http.Request{Method: method, URL: &url.URL{Path: path}})
}

func (w *wire) read(request *http.Request) reply {
	w.t.Helper()
	response, err := http.ReadResponse(w.r, request) //nolint:bodyclose // readReply closes it
	if err != nil {
		w.t.Fatalf("no answer: %v", err)
	}
	got := readReply(w.t, response)
	relaytest.Check(w.t, request, response, got.body)
	return got
}

// ended reports whether the relay has closed the connection; it waits for that.
func (w *wire) ended() bool {
	_, err := w.r.ReadByte()
	netErr, ok := err.(net.Error) //nolint:errorlint // from the connection itself
	return err != nil && (!ok || !netErr.Timeout())
}
