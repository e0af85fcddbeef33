package conform

import (
	"bytes"
	"encoding/json"
	"net/http"

	"github.com/google/uuid"
)

var contractFaults = []fault{
	{"another contract is served", "contract.served", answering("GET /openapi.yaml", func(_ *ask, r *reply) *reply {
		r.body = bytes.ReplaceAll(r.body, []byte("/v1/messages:"), []byte("/v1/mail:"))
		return r
	})},
	{"another limit is told", "contract.info", answering("GET "+infoPath, func(_ *ask, r *reply) *reply {
		return r.change(func(m map[string]any) {
			limits, _ := m["limits"].(map[string]any)
			limits["messageBytes"] = 1 << 20
		})
	})},
	{"nobody knows who may register", "contract.info contract.answers",
		answering("GET "+infoPath, func(_ *ask, r *reply) *reply {
			return r.change(func(m map[string]any) { m["registration"] = "sometimes" })
		})},
	{"a 409 lacks its code", "contract.answers accounts.name-taken keys.conflict keys.rotation keys.rotation-last-resort idempotency.other-body", func(*broken) spoil {
		return spoil{http: func(a *ask, forward func(*ask) *reply) *reply {
			r := forward(a)
			if r != nil && r.status == http.StatusConflict {
				r.change(func(m map[string]any) { delete(m, "code") })
			}
			return r
		}}
	}},
	{"x-request-id is left out of errors", "contract.answers errors.request-id", func(*broken) spoil {
		return spoil{http: func(a *ask, forward func(*ask) *reply) *reply {
			r := forward(a)
			if r != nil && r.status >= 400 {
				r.header.Del("X-Request-Id")
			}
			return r
		}}
	}},
	{"x-request-id is always the relay's own", "errors.request-id", func(*broken) spoil {
		return spoil{http: func(a *ask, forward func(*ask) *reply) *reply {
			r := forward(a)
			if r != nil && r.socket == nil {
				r.header.Set("X-Request-Id", uuid.NewString())
			}
			return r
		}}
	}},
	{"unknown paths are answered in plain text", "contract.answers errors.unknown-path", func(*broken) spoil {
		return spoil{http: func(a *ask, forward func(*ask) *reply) *reply {
			r := forward(a)
			if r != nil && text(object(r.body), "code") == "not_found" {
				r.body = []byte("404 page not found")
				r.header.Set("Content-Type", "text/plain")
			}
			return r
		}}
	}},
	{"an unknown method is an unknown path", "errors.method", func(*broken) spoil {
		return spoil{http: func(a *ask, forward func(*ask) *reply) *reply {
			r := forward(a)
			if r != nil && r.status == http.StatusMethodNotAllowed {
				return madeError(http.StatusNotFound, "not_found")
			}
			return r
		}}
	}},
	{"any Content-Type is taken", "errors.media-type",
		standing("POST /v1/sessions", func(a *ask, forward func(*ask) *reply) *reply {
			a.header.Set("Content-Type", jsonMedia)
			return forward(a)
		})},
	{"half a body makes it fail", "errors.malformed", answering("POST /v1/users", func(a *ask, r *reply) *reply {
		if r.status == http.StatusBadRequest && !json.Valid(a.body) {
			return madeError(http.StatusInternalServerError, "internal")
		}
		return r
	})},
	{"a large body is called malformed", "errors.too-large", func(*broken) spoil {
		return spoil{http: func(a *ask, forward func(*ask) *reply) *reply {
			if len(a.body) > 2<<20 {
				return madeError(http.StatusBadRequest, "invalid_request")
			}
			return forward(a)
		}}
	}},
	{"the contract is served as plain text", "contract.answers",
		answering("GET /openapi.yaml", func(_ *ask, r *reply) *reply {
			r.header.Set("Content-Type", "text/plain")
			return r
		})},
}
