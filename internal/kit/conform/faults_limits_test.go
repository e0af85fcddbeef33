package conform

import (
	"net/http"
	"strings"

	"github.com/obscura-relay/obscura/gen/obscurapb"
)

var accountingFaults = []fault{
	{"a gap for the cap is hidden", "accounting.cap accounting.fair accounting.balance",
		gaps(func(_ *link, g *obscurapb.Gap) bool {
			return g.GetReason() != obscurapb.Gap_REASON_CAP
		})},
	{"a gap comes after what follows it", "accounting.cap",
		frames(func(l *link, frame *obscurapb.WebSocketFrame) []*obscurapb.WebSocketFrame {
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
	{"room is made from whoever comes first", "accounting.fair",
		frames(func(_ *link, frame *obscurapb.WebSocketFrame) []*obscurapb.WebSocketFrame {
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
	{"the export counts wrong", "accounts.export accounting.balance",
		answering("GET /v1/account", func(_ *ask, r *reply) *reply {
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
	{"what is set aside is not reported", "accounting.passed-over", gaps(func(_ *link, g *obscurapb.Gap) bool {
		return g.GetReason() != obscurapb.Gap_REASON_QUARANTINED
	})},
	{"a gap is told again behind the mail", "accounting.gap-once",
		frames(func(l *link, frame *obscurapb.WebSocketFrame) []*obscurapb.WebSocketFrame {
			if frame.GetGap() != nil {
				l.note("told", frame)
			}
			if frame.GetDrained() == nil || !l.has("told") {
				return []*obscurapb.WebSocketFrame{frame}
			}
			told, _ := l.note("told", nil).(*obscurapb.WebSocketFrame)
			return []*obscurapb.WebSocketFrame{told, frame}
		})},
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
	{"bundles are limited for each device", "limits.bundles", func(*broken) spoil {
		served, last := newTable[bool](), newTable[*reply]()
		return spoil{http: func(a *ask, forward func(*ask) *reply) *reply {
			r := forward(a)
			if a.where != "GET /v1/users/{id}" || r == nil {
				return r
			}
			if r.status == http.StatusOK {
				served.put(a.token(), true)
				last.put(a.id, r)
			} else if _, known := served.get(a.token()); r.status == http.StatusTooManyRequests && !known {
				if earlier, ok := last.get(a.id); ok {
					return earlier
				}
			}
			return r
		}}
	}},
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
