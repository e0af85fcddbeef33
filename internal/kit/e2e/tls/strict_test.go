package tls_test

import (
	"crypto/tls"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"github.com/google/uuid"

	spec "github.com/obscura-relay/obscura/gen/api"
	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

// Every answer says it, whoever makes it.
func TestBrowsersAreToldToStayWithTLS(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t, secure(t))
	device := relay.Register(t).NewDevice(t)
	check := func(what string, status int, h http.Header) {
		t.Helper()
		if got := h.Get("Strict-Transport-Security"); got != "max-age=31536000" {
			t.Errorf("%s, %d: %q", what, status, got)
		}
	}
	contract, err := spec.GetSpec()
	if err != nil {
		t.Fatal(err)
	}
	parameter := regexp.MustCompile(`\{\w+\}`)
	operations := 0
	for path, item := range contract.Paths.Map() {
		for method, op := range item.Operations() {
			operations++
			ask := e2e.Ask{Method: method, Path: parameter.ReplaceAllString(path, uuid.NewString())}
			if op.RequestBody != nil {
				for ask.Media = range op.RequestBody.Value.Content {
				}
				ask.Body = "{}"
			}
			for _, token := range []string{"", device.Token} {
				ask.Token = token
				reply := ask.To(t, relay)
				check(method+" "+path, reply.Status, reply.Header)
			}
		}
	}
	if operations < 30 {
		t.Errorf("there are %d operations only", operations)
	}
	for what, want := range map[string]int{"/nowhere": 404, "/docs": 200, "/openapi.yaml": 200} {
		reply := e2e.Ask{Method: "GET", Path: what}.To(t, relay)
		check(what, reply.Status, reply.Header)
		if reply.Status != want {
			t.Errorf("%s: %d", what, reply.Status)
		}
	}
	stored := e2e.Ask{Method: "POST", Path: "/v1/attachments", Token: device.Token, Media: "application/octet-stream",
		Body: strings.Repeat("y", 5000)}.To(t, relay).Want(t, 201, "")
	check("an upload that is stored", 201, stored.Header)
	for _, unreadable := range []string{"NONSENSE\r\n\r\n",
		"GET / HTTP/1.1\r\nX: " + strings.Repeat("x", 20_000) + "\r\n\r\n"} {
		w := e2e.DialWire(t, relay)
		w.Send(unreadable)
		reply := w.Reply()
		check(unreadable[:8], reply.Status, reply.Header)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: authority.Pool()}}}
	gateway := strings.Replace(relay.API, "https", "wss", 1) + "/v1/gateway"
	socket, response, err := websocket.Dial(t.Context(), gateway, //nolint:bodyclose // the library closes it
		&websocket.DialOptions{HTTPHeader: http.Header{"Authorization": {"Bearer " + device.Token}},
			HTTPClient: client})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = socket.CloseNow() }()
	check("an upgrade", response.StatusCode, response.Header)

	plain := e2e.Ask{Method: "GET", Path: "/v1/info"}.To(t, relaytest.Start(t))
	if got := plain.Header.Get("Strict-Transport-Security"); got != "" {
		t.Errorf("without TLS: %q", got)
	}
}
