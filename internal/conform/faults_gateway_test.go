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
	r := forward(&ask{method: "POST", path: "/v1/gateway/ticket", header: http.Header{"Authorization": {"Bearer " + token}}})
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
			if _, known := b.ofTicket.get(strings.TrimPrefix(a.query, "ticket=")); !known && a.query != "" && r.status == http.StatusUnauthorized {
				return madeError(http.StatusForbidden, "forbidden")
			}
			return r
		})(b)
	}},
	{"without an upgrade it is a bad request", "gateway.upgrade-required", turned(connecting, http.StatusUpgradeRequired, "", func() *reply {
		return madeError(http.StatusBadRequest, "invalid_request")
	})},
	{"tokens do not open sockets", "gateway.bearer", standing(connecting, func(a *ask, forward func(*ask) *reply) *reply {
		if a.upgrade() && a.query == "" && readClaims(a.token()).DeviceID != nil {
			return madeError(http.StatusUnauthorized, "invalid_ticket")
		}
		return forward(a)
	})},
	{"a displaced socket is closed as if it were normal", "gateway.displaced", closed(4409, websocket.StatusNormalClosure)},
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
	{"a large frame has another code", "gateway.too-big", closed(websocket.StatusMessageTooBig, websocket.StatusPolicyViolation)},
	{"frames above 32 KiB are too big", "gateway.too-big", func(*broken) spoil {
		return spoil{up: func(l *link, _ websocket.MessageType, data []byte) bool {
			if len(data) > 32<<10 {
				_ = l.client.Close(websocket.StatusMessageTooBig, "")
			}
			return true
		}}
	}},
	{"pings are not answered", "gateway.ping", func(*broken) spoil { return spoil{deaf: true} }},
}

var accountingFaults = []fault{
	{"a gap for the cap is hidden", "accounting.cap accounting.fair accounting.balance", gaps(func(_ *link, g *obscurapb.Gap) bool {
		return g.GetReason() != obscurapb.Gap_REASON_CAP
	})},
	{"a gap comes after what follows it", "accounting.cap", frames(func(l *link, frame *obscurapb.WebSocketFrame) []*obscurapb.WebSocketFrame {
		if frame.GetGap() != nil {
			before, _ := l.note("gaps", nil).([]*obscurapb.WebSocketFrame)
			l.note("gaps", append(before, frame))
			return nil
		}
		if frame.GetDrained() != nil {
			held, _ := l.note("gaps", nil).([]*obscurapb.WebSocketFrame)
			return append(held, frame)
		}
		return []*obscurapb.WebSocketFrame{frame}
	})},
	{"room is made from whoever comes first", "accounting.fair", frames(func(_ *link, frame *obscurapb.WebSocketFrame) []*obscurapb.WebSocketFrame {
		var out []*obscurapb.WebSocketFrame
		var kept []*obscurapb.Envelope
		for _, e := range frame.GetEnvelopeBatch().GetEnvelopes() {
			if strings.HasPrefix(string(e.GetMessage()), "friend ") && e.GetSequence() <= 20 {
				out = append(out, gapFrame(e.GetSequence(), e.GetSequence(), obscurapb.Gap_REASON_CAP))
			} else {
				kept = append(kept, e)
			}
		}
		if len(out) == 0 {
			return []*obscurapb.WebSocketFrame{frame}
		}
		return append(out, batchFrame(kept...))
	})},
	{"the export counts wrong", "accounts.export accounting.balance", answering("GET /v1/account", func(_ *ask, r *reply) *reply {
		return r.change(func(m map[string]any) {
			devices, _ := m["devices"].([]any)
			for _, d := range devices {
				d.(map[string]any)["mailbox"].(map[string]any)["accepted"] = 1
			}
		})
	})},
	{"a gap is told once", "accounting.gap-again", func(*broken) spoil {
		told := newTable[bool]()
		return gaps(func(l *link, g *obscurapb.Gap) bool { return told.add(l.device+g.String(), true) })(nil)
	}},
}

var limitFaults = []fault{
	{"429 has no Retry-After", "contract.answers limits.bundles limits.retry-after", func(*broken) spoil {
		return spoil{http: func(a *ask, forward func(*ask) *reply) *reply {
			r := forward(a)
			if r != nil && r.socket == nil {
				r.header.Del("Retry-After")
			}
			return r
		}}
	}},
	{"bundles are limited for a caller, whoever the target", "limits.bundles", limited("GET /v1/users/{id}")},
	{"Retry-After is too short", "limits.retry-after", limited("POST /v1/gateway/ticket")},
}

// limited refuses a caller for good once it has been refused.
func limited(where string) func(*broken) spoil {
	return func(*broken) spoil {
		refused := newTable[*reply]()
		return spoil{http: func(a *ask, forward func(*ask) *reply) *reply {
			if a.where != where {
				return forward(a)
			}
			if r, ok := refused.get(a.token()); ok {
				return r
			}
			r := forward(a)
			if r != nil && r.status == http.StatusTooManyRequests {
				refused.put(a.token(), r)
			}
			return r
		}}
	}
}
