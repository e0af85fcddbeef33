package conform

import (
	"net/http"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/gen/obscurapb"
)

const sendingSealed = "POST " + sealedPath

var sealedFaults = []fault{
	{"a removed delivery token stays", "sealed.tokens sealed.refused",
		standing("POST "+tokensPath, func(a *ask, forward func(*ask) *reply) *reply {
			return forward(a.with(changed(a.body, func(m map[string]any) { delete(m, "remove") })))
		})},
	{"a sealed envelope names somebody", "sealed.send",
		frames(func(_ *link, frame *obscurapb.WebSocketFrame) []*obscurapb.WebSocketFrame {
			for _, e := range frame.GetEnvelopeBatch().GetEnvelopes() {
				if len(e.GetSenderId()) == 0 {
					e.SenderId = e.GetId()
				}
			}
			return []*obscurapb.WebSocketFrame{frame}
		})},
	{"a sealed repetition is another batch", "sealed.once",
		standing(sendingSealed, func(a *ask, forward func(*ask) *reply) *reply {
			if a.header.Get("Idempotency-Key") != "" {
				a = a.with(a.body)
				a.header.Set("Idempotency-Key", uuid.NewString())
			}
			return forward(a)
		})},
	{"a sealed request may say who makes it", "sealed.identified",
		standing(sendingSealed, func(a *ask, forward func(*ask) *reply) *reply {
			a = a.with(a.body)
			a.header.Del("Authorization")
			return forward(a)
		})},
	{"a wrong delivery token hears which users there are", "sealed.fetch",
		answering("GET /v1/users/{id}/devices", func(a *ask, r *reply) *reply {
			if r.status != http.StatusUnauthorized || a.header.Get("Delivery-Token") == "" {
				return r
			}
			return r.change(func(m map[string]any) { m["error"] = "There is no user " + a.id })
		})},
}
