package conform

import (
	"net/http"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/gen/client"
	"github.com/obscura-relay/obscura/internal/kit/contract"
)

const infoPath = "/v1/info"

// limitsOfContract are what clients rely on.
var limitsOfContract = client.InfoLimits{MessageBytes: 256 << 10, Submissions: 100, SendBytes: 2 << 20,
	Recipients: 1000, ExpandedBytes: 4 << 20, PrefixBytes: 256, Audiences: 100, MailboxEnvelopes: 1000,
	EnvelopeSeconds: 30 * 24 * 3600, Devices: 10, PreKeys: 100, DeliveryTokens: 1000, AttachmentBytes: 50 << 20,
	AttachmentSeconds: 30 * 24 * 3600, BackupBytes: 2 << 20}

var contractChecks = []check{
	{"contract.served", "GET /openapi.yaml serves the contract, without a token, and it names every operation of the service.", func(t *try) {
		a := t.call("GET", "/openapi.yaml", "", nil).want(http.StatusOK, "")
		served, err := openapi3.NewLoader().LoadFromData(a.body)
		t.must(err == nil, "what is served is not an OpenAPI document")
		ours, err := contract.Document()
		t.must(err == nil, "the embedded contract cannot be read: %v", err)
		for path, item := range ours.Paths.Map() {
			if !strings.HasPrefix(path, "/v1/") {
				continue // pages beside the service
			}
			for method := range item.Operations() {
				there := served.Paths.Value(path)
				t.must(there != nil && there.GetOperation(method) != nil,
					"the contract that is served does not name %s %s", method, path)
			}
		}
	}},
	{"contract.info", "GET /v1/info says who may register, the version of the contract and its limits, without a token.", func(t *try) {
		a := t.call("GET", infoPath, "", nil)
		t.offered(a)
		info := into[client.Info](a.want(http.StatusOK, ""))
		t.must(info.Registration.Valid(), "registration is none of open, invite, closed")
		t.must(info.APIVersion != "", "there is no apiVersion")
		t.must(info.Limits == limitsOfContract, "the limits are not those of the contract: %+v", info.Limits)
	}},
	{answersCheck, "Every answer that the other checks got is one that the contract declares: status, form, x-request-id.", nil},
}

var errorChecks = []check{
	{"errors.request-id", "Every answer carries x-request-id: the client's own if it sent a UUID, else a fresh one.",
		func(t *try) {
			for _, path := range []string{"/openapi.yaml", "/v1/account", "/v1/nothing-here"} {
				own := uuid.NewString()
				ask := func(id string) string {
					return t.send(request{method: "GET", path: path,
						header: map[string]string{"x-request-id": id}}).header.Get("x-request-id")
				}
				t.must(ask(own) == own, "GET %s: x-request-id is not the one that was sent", path)
				first, second := ask("not a UUID"), ask("")
				t.must(uuid.Validate(first) == nil && uuid.Validate(second) == nil, "GET %s: x-request-id is not a UUID",
					path)
				t.must(first != second && first != own, "GET %s: x-request-id is not fresh", path)
			}
		}},
	{"errors.unknown-path", "A path that does not exist is 404, with an error body.", func(t *try) {
		t.call("GET", "/v1/nothing-here", "", nil).wantError(http.StatusNotFound, "")
		t.call("POST", "/nothing", "", map[string]string{}).wantError(http.StatusNotFound, "")
	}},
	{"errors.method", "A method that a path does not have is 405, with an error body.", func(t *try) {
		t.call("DELETE", "/v1/users", "", nil).wantError(http.StatusMethodNotAllowed, "")
		t.call("GET", "/v1/messages", "", nil).wantError(http.StatusMethodNotAllowed, "")
		t.call("PATCH", "/v1/devices", "", nil).wantError(http.StatusMethodNotAllowed, "")
	}},
	{"errors.media-type", "A body with another Content-Type than the contract's is 415, with an error body.",
		func(t *try) {
			d := t.device()
			body := []byte(`{"username":"` + d.user.name + `","password":"` + d.user.password() + `"}`)
			for _, media := range []string{"text/plain", "application/x-www-form-urlencoded"} {
				t.send(request{method: "POST", path: "/v1/sessions", media: media,
					body: body}).wantError(http.StatusUnsupportedMediaType, "(JSON as "+media+")")
			}
			t.send(request{method: "POST", path: "/v1/messages", token: d.token, media: jsonMedia, body: []byte("{}")}).
				wantError(http.StatusUnsupportedMediaType, "(JSON in place of protobuf)")
		}},
	{"errors.malformed", "A malformed body or parameter is 400, with an error body.", func(t *try) {
		d := t.device()
		for what, body := range map[string]string{"half a body": `{"username":`, "no JSON": "hello",
			"an empty body":            "",
			"a member of another type": `{"username":7,"password":"0123456789ab"}`,
			"a missing member":         `{"username":"abc"}`, "a list": `[]`} {
			t.send(request{method: "POST", path: "/v1/users", media: jsonMedia,
				body: []byte(body)}).wantError(http.StatusBadRequest, "("+what+")")
		}
		t.submit(d, "", []byte{0xff, 0xff, 0xff}).wantError(http.StatusBadRequest, "(garbage)")
		t.submit(d, "not-a-uuid", nil).wantError(http.StatusBadRequest, "(a bad Idempotency-Key)")
		t.call("GET", "/v1/devices/not-a-uuid", d.token, nil).wantError(http.StatusBadRequest, "(a bad id in the path)")
	}},
	{"errors.too-large", "A request body above 2 MiB is 413, with an error body.", func(t *try) {
		t.submit(t.device(), "", make([]byte, 2<<20+1024)).wantError(http.StatusRequestEntityTooLarge,
			"(2 MiB and 1 KiB)")
	}},
}
