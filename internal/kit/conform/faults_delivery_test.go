package conform

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/coder/websocket"
	"google.golang.org/protobuf/proto"

	"github.com/obscura-relay/obscura/gen/obscurapb"
)

func acking(f func(l *link, ack *obscurapb.AckMessage) (pass bool)) func(*link, websocket.MessageType, []byte) bool {
	return func(l *link, _ websocket.MessageType, data []byte) bool {
		var frame obscurapb.WebSocketFrame
		if proto.Unmarshal(data, &frame) != nil || len(frame.GetAck().GetMessageIds()) == 0 {
			return true
		}
		return f(l, frame.GetAck())
	}
}

// frames breaks all frames on their way down.
func frames(f func(l *link, frame *obscurapb.WebSocketFrame) []*obscurapb.WebSocketFrame) func(*broken) spoil {
	return func(*broken) spoil { return spoil{down: f} }
}

func batchFrame(envelopes ...*obscurapb.Envelope) *obscurapb.WebSocketFrame {
	return &obscurapb.WebSocketFrame{
		Payload: &obscurapb.WebSocketFrame_EnvelopeBatch{EnvelopeBatch: &obscurapb.EnvelopeBatch{Envelopes: envelopes}}}
}

func gapFrame(from, to uint64, reason obscurapb.Gap_Reason) *obscurapb.WebSocketFrame {
	return &obscurapb.WebSocketFrame{Payload: &obscurapb.WebSocketFrame_Gap{Gap: &obscurapb.Gap{From: from, To: to,
		Reason: reason}}}
}

var deliveryFaults = []fault{
	{"one envelope is lost", "delivery.backlog accounting.cap accounting.fair", func(*broken) spoil {
		return spoil{down: filtered(func(_ *link, e *obscurapb.Envelope) bool { return e.GetSequence() != 142 })}
	}},
	{"two neighbours change places",
		"messages.envelope messages.failures delivery.backlog delivery.live delivery.order delivery.acknowledged " +
			"delivery.redelivered accounting.cap accounting.fair accounting.balance",
		frames(func(_ *link, frame *obscurapb.WebSocketFrame) []*obscurapb.WebSocketFrame {
			if all := frame.GetEnvelopeBatch().GetEnvelopes(); len(all) > 1 {
				all[0], all[1] = all[1], all[0]
			}
			return []*obscurapb.WebSocketFrame{frame}
		})},
	{"live mail comes twice", "delivery.live delivery.order delivery.private",
		frames(func(l *link, frame *obscurapb.WebSocketFrame) []*obscurapb.WebSocketFrame {
			if frame.GetDrained() != nil {
				l.note("drained", true)
			}
			if frame.GetEnvelopeBatch() != nil && l.has("drained") {
				return []*obscurapb.WebSocketFrame{frame, frame}
			}
			return []*obscurapb.WebSocketFrame{frame}
		})},
	{"mail waits for the next socket",
		"delivery.drained delivery.live delivery.order delivery.private delivery.redelivered delivery.foreign-ack " +
			"gateway.ticket gateway.bearer gateway.displaced",
		frames(func(l *link, frame *obscurapb.WebSocketFrame) []*obscurapb.WebSocketFrame {
			if frame.GetDrained() != nil {
				l.note("drained", true)
			}
			if frame.GetEnvelopeBatch() != nil && l.has("drained") {
				return nil
			}
			return []*obscurapb.WebSocketFrame{frame}
		})},
	{"there is a hole in the sequence", "delivery.backlog delivery.order accounting.fair accounting.balance",
		envelopes(func(_ *link, e *obscurapb.Envelope) {
			if e.GetSequence() > 85 {
				e.Sequence++
			}
		})},
	{"Drained comes again", "delivery.drained",
		frames(func(l *link, frame *obscurapb.WebSocketFrame) []*obscurapb.WebSocketFrame {
			if frame.GetDrained() != nil {
				l.note("drained", true)
			}
			if frame.GetEnvelopeBatch() != nil && l.has("drained") {
				return []*obscurapb.WebSocketFrame{
					{Payload: &obscurapb.WebSocketFrame_Drained{Drained: &obscurapb.Drained{}}}, frame}
			}
			return []*obscurapb.WebSocketFrame{frame}
		})},
	{"a socket gets another device's mail", "delivery.private", func(*broken) spoil {
		others := newTable[*link]()
		return spoil{down: filtered(func(l *link, e *obscurapb.Envelope) bool {
			if strings.HasPrefix(string(e.GetMessage()), "two ") {
				others.put("two", l)
			}
			if two, ok := others.get("two"); ok && strings.HasPrefix(string(e.GetMessage()), "one ") {
				two.send(batchFrame(e))
			}
			return true
		})}
	}},
	{"the threshold is 10", "delivery.key-status",
		frames(func(_ *link, frame *obscurapb.WebSocketFrame) []*obscurapb.WebSocketFrame {
			if status := frame.GetPreKeyStatus(); status != nil {
				status.MinThreshold = 10
			}
			return []*obscurapb.WebSocketFrame{frame}
		})},
	{"keys that run low are not told", "delivery.keys-low",
		frames(func(l *link, frame *obscurapb.WebSocketFrame) []*obscurapb.WebSocketFrame {
			if frame.GetPreKeyStatus() != nil && l.note("told", true) != nil {
				return nil
			}
			return []*obscurapb.WebSocketFrame{frame}
		})},
}

var ackFaults = []fault{
	{"acknowledgements are lost",
		"idempotency.acknowledged delivery.acknowledged delivery.foreign-ack gateway.too-big accounting.balance",
		func(*broken) spoil {
			return spoil{up: acking(func(*link, *obscurapb.AckMessage) bool { return false })}
		}},
	{"only the first id of an acknowledgement counts", "delivery.acknowledged delivery.foreign-ack accounting.balance",
		func(*broken) spoil {
			return spoil{up: acking(func(l *link, ack *obscurapb.AckMessage) bool {
				if ids := ack.GetMessageIds(); len(ids) > 1 {
					l.ack(ids[0])
					return false
				}
				return true
			})}
		}},
	{"what was sent is forgotten",
		"delivery.acknowledged delivery.redelivered delivery.foreign-ack accounting.balance accounting.gap-again",
		func(*broken) spoil {
			carrier := newTable[*link]()
			again := func(l *link, what string) bool {
				if carrier.add(l.device+what, l) {
					return false
				}
				first, _ := carrier.get(l.device + what)
				return first != l
			}
			envelopes := filtered(func(l *link, e *obscurapb.Envelope) bool { return !again(l, string(e.GetId())) })
			return spoil{down: func(l *link, frame *obscurapb.WebSocketFrame) []*obscurapb.WebSocketFrame {
				if gap := frame.GetGap(); gap != nil && again(l, "gap "+strconv.FormatUint(gap.GetFrom(), 10)) {
					return nil
				}
				return envelopes(l, frame)
			}}
		}},
	{"an envelope is set aside when it was sent ten times", "delivery.broken", func(*broken) spoil {
		sent := newTable[int]()
		return spoil{down: filtered(func(l *link, e *obscurapb.Envelope) bool {
			return sent.change(l.device+string(e.GetId()), func(n int) int { return n + 1 }) <= passedOver
		})}
	}},
	{"an envelope has another id on each socket", "delivery.redelivered", func(*broken) spoil {
		sockets := newTable[byte]()
		salted := func(l *link, id []byte) []byte {
			salt := l.salt(func() byte { return sockets.change(l.device, func(n byte) byte { return n + 1 }) })
			id = bytes.Clone(id)
			id[0] ^= salt
			return id
		}
		return spoil{
			down: filtered(func(l *link, e *obscurapb.Envelope) bool { e.Id = salted(l, e.GetId()); return true }),
			up: acking(func(l *link, ack *obscurapb.AckMessage) bool {
				for i, id := range ack.GetMessageIds() {
					ack.MessageIds[i] = salted(l, id)
				}
				l.ack(ack.GetMessageIds()...)
				return false
			}),
		}
	}},
	{"anybody may acknowledge an envelope", "delivery.foreign-ack", func(*broken) spoil {
		carrier := newTable[*link]()
		return spoil{
			down: filtered(func(l *link, e *obscurapb.Envelope) bool {
				carrier.put(string(e.GetId()),
					l)
				return true
			}),
			up: acking(func(_ *link, ack *obscurapb.AckMessage) bool {
				for _, id := range ack.GetMessageIds() {
					if l, ok := carrier.get(string(id)); ok {
						l.ack(id)
					}
				}
				return true
			}),
		}
	}},
}
