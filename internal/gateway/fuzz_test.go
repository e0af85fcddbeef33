package gateway

import (
	"slices"
	"testing"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/obscura-relay/obscura/gen/obscurapb"
	"github.com/obscura-relay/obscura/internal/core/mailbox"
)

// FuzzFrame feeds frames as clients may send them: they are refused, or are acknowledgements in
// which the library finds the same ids; and an id leads to a sequence only if it is the device's
// own.
func FuzzFrame(f *testing.F) {
	device := uuid.MustParse("6ba7b810-9dad-41d1-80b4-00c04fd430c8")
	ids := mailbox.IDsOf(device)
	own, other := mailbox.IDsOf(device).Name(4097), mailbox.IDsOf(uuid.New()).Name(4097)
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
	add(&obscurapb.WebSocketFrame{
		Payload: &obscurapb.WebSocketFrame_Drained{Drained: &obscurapb.Drained{Sequence: 1 << 63}}})
	add(&obscurapb.WebSocketFrame{Payload: &obscurapb.WebSocketFrame_Gap{Gap: &obscurapb.Gap{From: 1, To: 2,
		Reason: 99}}})
	f.Add([]byte{})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{11<<3 | 2, 0, 12<<3 | 2, 0})                        // an acknowledgement that becomes something else
	f.Add([]byte{11<<3 | 2, 2, 1<<3 | 2, 0, 11<<3 | 2, 0})           // one in two parts
	f.Add([]byte{11 << 3, 1, 11<<3 | 2, 3, 1<<3 | 2, 1, 7, 0x7a, 1}) // and ones of other types
	f.Fuzz(func(t *testing.T, data []byte) {
		sequences, err := decodeAck(ids, data)
		var frame obscurapb.WebSocketFrame
		broken := proto.Unmarshal(data, &frame)
		if err != nil {
			// Only what carries nothing else is an acknowledgement; the library takes the last of
			// several.
			if len(sequences) != 0 || broken == nil && frame.GetAck() != nil && len(data) == proto.Size(&frame) {
				t.Errorf("refused: %x", data)
			}
			return
		}
		if broken != nil || frame.GetAck() == nil {
			t.Fatalf("taken, and the library says %v, %T", broken, frame.GetPayload())
		}
		var want []int64
		for _, id := range frame.GetAck().GetMessageIds() {
			seq, ok := ids.Sequence(id)
			if ok != (len(id) == 16 && uuid.UUID(id) == ids.Name(seq)) || seq < 0 {
				t.Errorf("%x leads to %d: %v", id, seq, ok)
			}
			if ok {
				want = append(want, seq)
			}
		}
		if !slices.Equal(sequences, want) {
			t.Errorf("sequences %v, want %v", sequences, want)
		}
	})
}
