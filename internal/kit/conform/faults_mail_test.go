package conform

import (
	"bytes"
	"net/http"
	"sync"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/obscura-relay/obscura/gen/client"
	"github.com/obscura-relay/obscura/gen/obscurapb"
)

const sending = "POST /v1/messages"

// envelopes breaks each envelope on its way down.
func envelopes(f func(l *link, e *obscurapb.Envelope)) func(*broken) spoil {
	return func(*broken) spoil {
		return spoil{down: filtered(func(l *link, e *obscurapb.Envelope) bool { f(l, e); return true })}
	}
}

// batches breaks the batches that are sent.
func batches(f func(batch []*obscurapb.Submission) []*obscurapb.Submission) func(*broken) spoil {
	return standing(sending, func(a *ask, forward func(*ask) *reply) *reply {
		if batch := batchOf(a); len(batch) > 0 {
			a = a.with(encode(f(batch)...))
		}
		return forward(a)
	})
}

func batchOf(a *ask) []*obscurapb.Submission {
	var request obscurapb.SendMessageRequest
	if proto.Unmarshal(a.body, &request) != nil {
		return nil
	}
	return request.GetMessages()
}

var takeoverFaults = []fault{
	{"bundles keep the registration id of before a takeover", "keys.takeover", func(b *broken) spoil {
		first := newTable[int32]()
		s := bundling(func(_ string, p *client.PreKeyBundle) {
			if id, ok := first.get(p.DeviceID.String()); ok {
				p.RegistrationID = id
			}
		})(b)
		return spoil{http: func(a *ask, forward func(*ask) *reply) *reply {
			r := s.http(a, forward)
			if r != nil && a.where == "POST /v1/devices" && r.status == http.StatusCreated {
				first.put(text(object(r.body), "deviceId"), *uploaded(a).RegistrationID)
			}
			return r
		}}
	}},
	{"the mail of before a takeover has expired", "keys.takeover-mail accounting.gap-again",
		gaps(func(_ *link, g *obscurapb.Gap) bool {
			if g.GetReason() == obscurapb.Gap_REASON_TAKEOVER {
				g.Reason = obscurapb.Gap_REASON_EXPIRED
			}
			return true
		})},
}

var messageFaults = []fault{
	{"the sender's number is not told", "messages.envelope", envelopes(func(_ *link, e *obscurapb.Envelope) {
		e.SenderDeviceNumber = 0
	})},
	{"a message that is too large has another code", "messages.failures",
		answering(sending, func(_ *ask, r *reply) *reply {
			var response obscurapb.SendMessageResponse
			if r.status != http.StatusOK || proto.Unmarshal(r.body, &response) != nil {
				return r
			}
			for _, f := range response.GetFailedSubmissions() {
				if f.GetErrorCode() == obscurapb.ErrorCode_ERROR_CODE_MESSAGE_TOO_LARGE {
					f.ErrorCode = obscurapb.ErrorCode_ERROR_CODE_MAILBOX_FULL
				}
			}
			r.body, _ = proto.Marshal(&response)
			return r
		})},
	{"long messages lose their end", "messages.largest", envelopes(func(_ *link, e *obscurapb.Envelope) {
		e.Message = e.Message[:min(len(e.Message), 200_000)]
	})},
	{"of 101 submissions the first 100 are stored", "messages.too-many",
		standing(sending, func(a *ask, forward func(*ask) *reply) *reply {
			if batch := batchOf(a); len(batch) > maxSubmissions {
				a = a.with(encode(batch[:maxSubmissions]...))
			}
			return forward(a)
		})},
	{"a submission id counts once in a batch", "messages.shared-id",
		batches(func(batch []*obscurapb.Submission) (kept []*obscurapb.Submission) {
			for _, m := range batch {
				if len(kept) == 0 || !bytes.Equal(kept[len(kept)-1].GetSubmissionId(), m.GetSubmissionId()) {
					kept = append(kept, m)
				}
			}
			return kept
		})},
}

// rekeyed forgets idempotency keys: f says of which requests.
func rekeyed(f func(a *ask, key string) (forget bool)) func(*broken) spoil {
	return standing(sending, func(a *ask, forward func(*ask) *reply) *reply {
		if f(a, a.header.Get("Idempotency-Key")) {
			a = a.with(a.body)
			a.header.Set("Idempotency-Key", uuid.NewString())
		}
		return forward(a)
	})
}

var idempotencyFaults = []fault{
	{"idempotency keys are forgotten",
		"idempotency.repeated idempotency.concurrent idempotency.acknowledged idempotency.other-body",
		rekeyed(func(_ *ask, key string) bool { return len(key) == 36 })},
	{"a batch without a key has none", "idempotency.derived", rekeyed(func(a *ask, key string) bool {
		return key == "" && len(batchOf(a)) > 0
	})},
	{"a repeated batch gets an empty answer", "idempotency.repeated", func(*broken) spoil {
		seen := newTable[bool]()
		return standing(sending, func(a *ask, forward func(*ask) *reply) *reply {
			r := forward(a)
			if r != nil && r.status == http.StatusOK && !seen.add(a.token()+a.header.Get("Idempotency-Key"), true) {
				r.body = nil
			}
			return r
		})(nil)
	}},
	{"a key is looked for before it is stored", "idempotency.concurrent", func(*broken) spoil {
		var mu sync.Mutex
		working := map[string]int{}
		return standing(sending, func(a *ask, forward func(*ask) *reply) *reply {
			key := a.header.Get("Idempotency-Key")
			mu.Lock()
			working[key]++
			twice := working[key] > 1
			mu.Unlock()
			defer func() {
				mu.Lock()
				defer mu.Unlock()
				working[key]--
			}()
			if twice && key != "" {
				a = a.with(a.body)
				a.header.Set("Idempotency-Key", uuid.NewString())
			}
			return forward(a)
		})(nil)
	}},
	{"a key is forgotten with the mail", "idempotency.acknowledged", func(*broken) spoil {
		acknowledged, used := newTable[bool](), newTable[bool]()
		s := rekeyed(func(a *ask, key string) bool {
			if used.add(key, true) {
				return false
			}
			for _, m := range batchOf(a) {
				if _, gone := acknowledged.get(string(m.GetDeviceId())); gone {
					return true
				}
			}
			return false
		})(nil)
		s.up = acking(func(l *link, _ *obscurapb.AckMessage) bool {
			if id, err := uuid.Parse(l.device); err == nil {
				acknowledged.put(string(id[:]), true)
			}
			return true
		})
		return s
	}},
	{"another body under a key is passed over", "idempotency.other-body",
		turned(sending, http.StatusConflict, "", func() *reply {
			r := okEmpty()
			r.header.Set("Content-Type", protobufMedia)
			return r
		})},
	{"keys are shared by all devices", "idempotency.other-device", func(*broken) spoil {
		answers := newTable[*reply]()
		owners := newTable[string]()
		return standing(sending, func(a *ask, forward func(*ask) *reply) *reply {
			key := a.header.Get("Idempotency-Key")
			if owner, used := owners.get(key); used && owner != a.token() {
				r, _ := answers.get(key)
				return r
			}
			r := forward(a)
			if r != nil && r.status == http.StatusOK && key != "" && owners.add(key, a.token()) {
				answers.put(key, r)
			}
			return r
		})(nil)
	}},
}

// gaps keeps the gaps that f likes.
func gaps(f func(l *link, g *obscurapb.Gap) bool) func(*broken) spoil {
	return func(*broken) spoil {
		return spoil{down: func(l *link, frame *obscurapb.WebSocketFrame) []*obscurapb.WebSocketFrame {
			if g := frame.GetGap(); g != nil && !f(l, g) {
				return nil
			}
			return []*obscurapb.WebSocketFrame{frame}
		}}
	}
}
