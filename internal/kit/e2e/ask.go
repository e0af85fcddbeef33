package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

// Ask is a request by hand: what the generated client cannot be brought to send.
type Ask struct {
	Method, Path, Token string
	// Media is the Content-Type of Body; JSON when empty, none when "-".
	Media, Body string
	// Header fields are sent as they stand, without normalisation.
	Header map[string]string
}

// Reply is the answer to a request.
type Reply struct {
	Status int
	Header http.Header
	Body   []byte
	// Code and Sentence are those of an error.
	Code, Sentence string
}

// To sends the request to a relay; the answer is held against the contract.
func (a Ask) To(t testing.TB, relay *relaytest.Relay) Reply {
	t.Helper()
	return a.Through(t, relay.API, relay.HTTP())
}

// Through sends the request to an address with a client.
func (a Ask) Through(t testing.TB, url string, client *http.Client) Reply {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), a.Method, url+a.Path, strings.NewReader(a.Body))
	if err != nil {
		t.Fatal(err)
	}
	switch {
	case a.Media == "" && a.Body != "":
		request.Header.Set("Content-Type", "application/json")
	case a.Media != "" && a.Media != "-":
		request.Header.Set("Content-Type", a.Media)
	}
	if a.Token != "" {
		request.Header.Set("Authorization", "Bearer "+a.Token)
	}
	for name, value := range a.Header {
		request.Header[name] = []string{value}
	}
	response, err := client.Do(request) //nolint:bodyclose // ReadReply closes it
	// not Fatal: many ask from goroutines of their own, and somebody waits for their reply
	if err != nil {
		t.Errorf("%s %s: %v", a.Method, a.Path, err)
		return Reply{}
	}
	return ReadReply(t, response)
}

// ReadReply reads an answer to its end.
func ReadReply(t testing.TB, response *http.Response) Reply {
	t.Helper()
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Error(err)
	}
	r := Reply{Status: response.StatusCode, Header: response.Header, Body: body}
	var e struct{ Error, Code string }
	if r.Status >= http.StatusBadRequest && json.Unmarshal(body, &e) == nil {
		r.Code, r.Sentence = e.Code, e.Error
	}
	return r
}

// Want fails the test unless the answer has this status and, for an error, this code.
func (r Reply) Want(t testing.TB, status int, code string) Reply {
	t.Helper()
	if r.Status != status || r.Code != code {
		t.Errorf("status %d, code %q; want %d, %q: %s", r.Status, r.Code, status, code, r.Body)
	}
	return r
}

// Member reads a text member of a JSON answer.
func (r Reply) Member(t testing.TB, name string) string {
	t.Helper()
	var object map[string]any
	if err := json.Unmarshal(r.Body, &object); err != nil {
		t.Fatalf("not JSON: %s", r.Body)
	}
	text, _ := object[name].(string)
	return text
}

// Object writes a JSON object of text members: name, value, name, value.
func Object(pairs ...string) string {
	members := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		members[pairs[i]] = pairs[i+1]
	}
	text, _ := json.Marshal(members)
	return string(text)
}
