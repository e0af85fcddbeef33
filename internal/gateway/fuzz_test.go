package gateway

import (
	"testing"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/obscura-relay/obscura/gen/obscurapb"
	"github.com/obscura-relay/obscura/internal/core/mailbox"
)

// FuzzFrame feeds frames as clients may send them: they are refused, or are acknowledgements that
// survive being encoded again; and an id leads to a sequence only if it is the device's own.
func FuzzFrame(f *testing.F) {
	device := uuid.MustParse("6ba7b810-9dad-41d1-80b4-00c04fd430c8")
	own, other := mailbox.EnvelopeID(device, 4097), mailbox.EnvelopeID(uuid.New(), 4097)
	add := func(frame *obscurapb.WebSocketFrame) {
		data, err := proto.Marshal(frame)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
		f.Add(data[:len(data)/2])
	}
	add(&obscurapb.WebSocketFrame{Payload: &obscurapb.WebSocketFrame_Ack{Ack: &obscurapb.AckMessage{
		MessageIds: [][]byte{own[:], other[:], nil, own[:15], uuid.Nil[:], uuid.Max[:]}}}})
	add(&obscurapb.WebSocketFrame{Payload: &obscurapb.WebSocketFrame_Drained{Drained: &obscurapb.Drained{Sequence: 1 << 63}}})
	add(&obscurapb.WebSocketFrame{Payload: &obscurapb.WebSocketFrame_Gap{Gap: &obscurapb.Gap{From: 1, To: 2, Reason: 99}}})
	f.Add([]byte{})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{11<<3 | 2, 0, 12<<3 | 2, 0}) // an acknowledgement that becomes something else
	f.Fuzz(func(t *testing.T, data []byte) {
		ids, err := decodeAck(data)
		if err != nil {
			if len(ids) != 0 {
				t.Error("ids from a frame that was refused")
			}
			return
		}
		for _, seq := range mailbox.Sequences(device, ids) {
			if seq < 0 {
				t.Errorf("sequence %d", seq)
			}
			id := mailbox.EnvelopeID(device, seq)
			found := false
			for _, given := range ids {
				found = found || string(given) == string(id[:])
			}
			if !found {
				t.Errorf("sequence %d was not among the ids", seq)
			}
		}
		again, err := proto.Marshal(&obscurapb.WebSocketFrame{Payload: &obscurapb.WebSocketFrame_Ack{Ack: &obscurapb.AckMessage{MessageIds: ids}}})
		if err != nil {
			t.Fatal(err)
		}
		if same, err := decodeAck(again); err != nil || len(same) != len(ids) {
			t.Errorf("%d ids became %d: %v", len(ids), len(same), err)
		}
	})
}
