package conform

import (
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/protobuf/proto"

	"github.com/obscura-relay/obscura/gen/obscurapb"
)

const (
	connecting = "GET /v1/gateway"
	// revoking are the checks that see a socket closed because its session ended.
	revoking = "accounts.password-sessions accounts.delete tokens.log-out devices.removed keys.takeover-sessions"
)

// closed replaces a close code.
func closed(from, to websocket.StatusCode) func(*broken) spoil {
	return func(*broken) spoil {
		return spoil{closing: func(_ *link, code websocket.StatusCode) websocket.StatusCode {
			if code == from {
				return to
			}
			return code
		}}
	}
}

// again gets a ticket in the place of a used one.
func (b *broken) again(a *ask, forward func(*ask) *reply) *reply {
	token, ok := b.ofTicket.get(strings.TrimPrefix(a.query, "ticket="))
	if !ok {
		return nil
	}
	r := forward(&ask{method: "POST", path: "/v1/gateway/ticket",
		header: http.Header{"Authorization": {"Bearer " + token}}})
	if r == nil || r.status != http.StatusCreated {
		return r
	}
	fresh := *a
	fresh.query = "ticket=" + text(object(r.body), "ticket")
	b.ofTicket.put(strings.TrimPrefix(fresh.query, "ticket="), token)
	return forward(&fresh)
}

var gatewayFaults = []fault{
	{"a ticket may be used again", "gateway.ticket gateway.ticket-raced", func(b *broken) spoil {
		return standing(connecting, func(a *ask, forward func(*ask) *reply) *reply {
			r := forward(a)
			if r != nil && a.upgrade() && r.status == http.StatusUnauthorized {
				if fresh := b.again(a, forward); fresh != nil && fresh.socket != nil {
					return fresh
				}
			}
			return r
		})(b)
	}},
	{"a ticket is looked for before it is taken", "gateway.ticket-raced", func(b *broken) spoil {
		var mu sync.Mutex
		looking := map[string]int{}
		return standing(connecting, func(a *ask, forward func(*ask) *reply) *reply {
			if !a.upgrade() || a.query == "" {
				return forward(a)
			}
			mu.Lock()
			looking[a.query]++
			first := looking[a.query] == 1
			mu.Unlock()
			after(50 * time.Millisecond)
			defer func() {
				mu.Lock()
				defer mu.Unlock()
				looking[a.query]--
			}()
			if first {
				return forward(a)
			}
			return b.again(a, forward)
		})(b)
	}},
	{"a made-up ticket is forbidden", "gateway.bad-ticket", func(b *broken) spoil {
		return answering(connecting, func(a *ask, r *reply) *reply {
			if _, known := b.ofTicket.get(strings.TrimPrefix(a.query, "ticket=")); !known && a.query != "" &&
				r.status == http.StatusUnauthorized {
				return madeError(http.StatusForbidden, "forbidden")
			}
			return r
		})(b)
	}},
	{"without an upgrade it is a bad request", "gateway.upgrade-required",
		turned(connecting, http.StatusUpgradeRequired, "", func() *reply {
			return madeError(http.StatusBadRequest, "invalid_request")
		})},
	{"tokens do not open sockets", "gateway.bearer",
		standing(connecting, func(a *ask, forward func(*ask) *reply) *reply {
			if a.upgrade() && a.query == "" && readClaims(a.token()).DeviceID != nil {
				return madeError(http.StatusUnauthorized, "invalid_ticket")
			}
			return forward(a)
		})},
	{"a displaced socket is closed as if it were normal", "gateway.displaced",
		closed(4409, websocket.StatusNormalClosure)},
	{"a revoked socket is closed as if it were normal", revoking, closed(4401, websocket.StatusNormalClosure)},
	{"a revoked socket is closed late", revoking, func(*broken) spoil {
		return spoil{closing: func(_ *link, code websocket.StatusCode) websocket.StatusCode {
			if code == 4401 {
				after(soon + time.Second)
			}
			return code
		}}
	}},
	{"a text frame has another code", "gateway.text", func(*broken) spoil {
		return spoil{
			up: func(l *link, kind websocket.MessageType, _ []byte) bool {
				if kind == websocket.MessageText {
					l.note("text", true)
				}
				return true
			},
			closing: func(l *link, code websocket.StatusCode) websocket.StatusCode {
				if l.has("text") {
					return websocket.StatusUnsupportedData
				}
				return code
			},
		}
	}},
	{"garbage is passed over", "gateway.garbage", func(*broken) spoil {
		return spoil{up: func(_ *link, kind websocket.MessageType, data []byte) bool {
			return kind == websocket.MessageText || proto.Unmarshal(data, &obscurapb.WebSocketFrame{}) == nil
		}}
	}},
	{"a large frame has another code", "gateway.too-big",
		closed(websocket.StatusMessageTooBig, websocket.StatusPolicyViolation)},
	{"frames above 32 KiB are too big", "gateway.too-big", func(*broken) spoil {
		return spoil{up: func(l *link, _ websocket.MessageType, data []byte) bool {
			if len(data) > 32<<10 {
				_ = l.client.Close(websocket.StatusMessageTooBig, "")
				return false
			}
			return true
		}}
	}},
	{"pings are not answered", "gateway.ping", func(*broken) spoil { return spoil{deaf: true} }},
}
