package contract_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/obscura-relay/obscura/gen/obscurapb"
	"github.com/obscura-relay/obscura/internal/kit/contract"
)

const id = "5f0f6f6e-3c57-4e6c-9b0a-0d9a3f0f7b11"

// sample is an answer; the zero value of each member is a right one.
type sample struct {
	method, path, media, body string
	status                    int
	header                    map[string]string
	unread                    bool
}

func (s sample) check() []string {
	if s.method == "" {
		s.method = http.MethodGet
	}
	if s.path == "" {
		s.path = "/v1/devices/" + id
	}
	if s.status == 0 {
		s.status = http.StatusOK
	}
	if s.media == "" {
		s.media = "application/json"
	}
	header := http.Header{"X-Request-Id": {id}, "Content-Type": {s.media}, "Date": {"x"}}
	for name, value := range s.header {
		if value == "" {
			header.Del(name)
		} else {
			header.Set(name, value)
		}
	}
	request := &http.Request{Method: s.method, URL: &url.URL{Path: s.path}, Header: http.Header{}}
	if s.unread {
		request = nil
	}
	return contract.Check(request, &http.Response{StatusCode: s.status, Header: header}, []byte(s.body))
}

const (
	device  = `{"deviceId":"` + id + `","deviceNumber":1,"name":null,"createdAt":"2026-01-01T00:00:00Z"}`
	failure = `{"error":"It failed.","code":"it_failed"}`
)

func TestWhatTheContractSaysPasses(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]sample{
		"a device":      {body: device},
		"an error":      {body: failure, status: 404},
		"no body":       {method: "DELETE"},
		"overload":      {body: failure, status: 503, header: map[string]string{"Retry-After": "1"}},
		"no token":      {body: failure, status: 401, header: map[string]string{"WWW-Authenticate": "Bearer"}},
		"other method":  {method: "PATCH", body: failure, status: 405, header: map[string]string{"Allow": "GET"}},
		"HEAD":          {method: "HEAD", status: 405, header: map[string]string{"Allow": "GET"}},
		"other path":    {path: "/v2", body: failure, status: 404},
		"stored":        {method: "POST", path: "/v1/messages", media: "application/x-protobuf"},
		"cannot read":   {unread: true, body: failure, status: 431},
		"other refusal": {path: "/v2", body: failure, status: 431},
	} {
		if found := s.check(); len(found) != 0 {
			t.Errorf("%s: %v", name, found)
		}
	}
}

func TestWhatTheContractDoesNotSayIsFound(t *testing.T) {
	t.Parallel()
	extra := string(protowire.AppendVarint(protowire.AppendTag(nil, 99, protowire.VarintType), 1))
	failed, err := proto.Marshal(&obscurapb.SendMessageResponse{FailedSubmissions: []*obscurapb.FailedSubmission{{}}})
	if err != nil {
		t.Fatal(err)
	}
	deeper := string(failed[:1]) + string(rune(len(extra))) + extra
	for name, c := range map[string]struct {
		sample sample
		want   string
	}{
		"no request id":      {sample{body: device, header: map[string]string{"X-Request-Id": ""}}, "x-request-id"},
		"a bad request id":   {sample{body: device, header: map[string]string{"X-Request-Id": "7"}}, "x-request-id"},
		"another status":     {sample{body: device, status: 202}, "undeclared status"},
		"a server's failure": {sample{body: failure, status: 502}, "undeclared status"},
		"another header": {sample{body: device, header: map[string]string{"Server": "x"}},
			"undeclared header Server"},
		"a browser's header": {sample{body: device, header: map[string]string{"Access-Control-Allow-Origin": "*"}},
			"undeclared header"},
		"a header out of place": {sample{body: device, header: map[string]string{"Retry-After": "1"}},
			"undeclared header Retry-After"},
		"another media type": {sample{body: device, media: "text/plain"}, "undeclared Content-Type"},
		"a member more":      {sample{body: strings.Replace(device, "{", `{"x":1,`, 1)}, `"x"`},
		"a member less":      {sample{body: strings.Replace(device, `"name":null,`, "", 1)}, "name"},
		"a wrong type":       {sample{body: strings.Replace(device, `null`, "7", 1)}, "name"},
		"no UUID":            {sample{body: strings.Replace(device, id, "x", 1)}, "deviceId"},
		"out of range":       {sample{body: strings.Replace(device, ":1,", ":128,", 1)}, "deviceNumber"},
		"no JSON":            {sample{body: "{"}, "not JSON"},
		"a member more, deeper": {sample{path: "/v1/devices",
			body: `{"devices":[` + strings.Replace(device, "{", `{"x":1,`, 1) + `]}`}, `"x"`},
		"a body for nothing":    {sample{method: "DELETE", body: "{}"}, "a body where none"},
		"an error of text":      {sample{body: "not found", status: 404, media: "text/plain"}, "Content-Type"},
		"an error without code": {sample{body: `{"error":"It failed."}`, status: 404}, "not an error body"},
		"an error that tells": {sample{body: strings.Replace(failure, "{", `{"stack":"x",`, 1), status: 404},
			"not an error body"},
		"a strange code":    {sample{body: `{"error":"It failed.","code":"It failed"}`, status: 404}, "code"},
		"overload for ever": {sample{body: failure, status: 503}, "Retry-After"},
		"overload for 0": {sample{body: failure, status: 503, header: map[string]string{"Retry-After": "0"}},
			"Retry-After"},
		"401 without scheme":   {sample{body: failure, status: 401}, "Www-Authenticate"},
		"405 without methods":  {sample{method: "PATCH", body: failure, status: 405}, "Allow"},
		"426 without protocol": {sample{path: "/v1/gateway", body: failure, status: 426}, "Upgrade"},
		"426 without version":  {sample{path: "/v1/gateway", body: failure, status: 426}, "Sec-Websocket-Version"},
		"404 for a method":     {sample{method: "PATCH", body: failure, status: 404}, "405 is due"},
		"405 for a path": {sample{path: "/v2", body: failure, status: 405,
			header: map[string]string{"Allow": "GET"}}, "404 is due"},
		"200 for a path":  {sample{path: "/v2", body: device}, "404 is due"},
		"200 for garbage": {sample{unread: true, body: device}, "no answer to what cannot be read"},
		"no protobuf": {sample{method: "POST", path: "/v1/messages", media: "application/x-protobuf",
			body: "\xff"}, "not a SendMessageResponse"},
		"a field more": {sample{method: "POST", path: "/v1/messages", media: "application/x-protobuf",
			body: extra}, "not a SendMessageResponse"},
		"a field more, deeper": {sample{method: "POST", path: "/v1/messages", media: "application/x-protobuf",
			body: deeper}, "not a SendMessageResponse"},
	} {
		if found := strings.Join(c.sample.check(), "\n"); !strings.Contains(found, c.want) {
			t.Errorf("%s: found %q, want %s", name, found, c.want)
		}
	}
}

func TestAFrontPassesOnAndReports(t *testing.T) {
	t.Parallel()
	relay := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Request-Id", id)
		_, _ = io.WriteString(w, r.Method+" "+r.URL.String()+" "+r.Host)
	}))
	defer relay.Close()
	api, err := url.Parse(relay.URL)
	if err != nil {
		t.Fatal(err)
	}
	var reported []string
	front := httptest.NewServer(contract.Front(api,
		&contract.Transport{Next: relay.Client().Transport, Report: func(s string) { reported = append(reported, s) }}))
	defer front.Close()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, front.URL+"/v1/gateway?ticket=x",
		http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	request.Host = "relay.example"
	response, err := front.Client().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || string(body) != "GET /v1/gateway?ticket=x relay.example" {
		t.Errorf("%q, %v", body, err)
	}
	if len(reported) != 1 || !strings.Contains(reported[0], "GET /v1/gateway, status 200: undeclared status") {
		t.Errorf("reported %q", reported)
	}
}
