package bench

import (
	"bytes"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/obscura-relay/obscura/gen/obscurapb"
)

func TestALedgerTellsWhatBecameOfEverySubmission(t *testing.T) {
	t.Parallel()
	var l ledger
	first := l.claim(5)
	for _, n := range []uint64{0, 1, 2} {
		l.accept(first + n)
	}
	arrive := func(n uint64, times int) {
		for range times {
			l.arrive(first + n)
		}
	}
	arrive(0, 1)
	arrive(1, 3)
	arrive(3, 1) // without a promise
	want := account{accepted: 3, delivered: 2, duplicated: 2, unconfirmed: 1}
	if got := l.balance(); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if lost := l.lost(l.balance()); lost != 1 {
		t.Errorf("%d lost, want 1", lost)
	}
	l.gaps.Add(1)
	if lost := l.lost(l.balance()); lost != 0 {
		t.Errorf("%d lost, want none: the relay reported it", lost)
	}
	if _, known := l.arrive(first + 5); known || l.alien.Load() != 1 {
		t.Error("a number that was never sent is not alien")
	}
}

func TestALedgerCountsFromManyGoroutines(t *testing.T) {
	t.Parallel()
	var l ledger
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 5000 {
				first := l.claim(7)
				for n := range uint64(7) {
					l.accept(first + n)
					l.arrive(first + n)
				}
			}
		})
	}
	wg.Wait()
	want := account{accepted: 280000, delivered: 280000}
	if got := l.balance(); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestTheLoadWritesAndReadsTheContractsMessages(t *testing.T) {
	t.Parallel()
	id, dev := uuid.New(), uuid.New()
	for _, size := range []int{payloadHeader, 127, 128, 512, 70000} {
		sent := payload{run: 7, number: 9, due: time.Second, device: 3, sender: 4}
		body := appendSubmission(nil, id, dev, nil, sent, size, bytes.Repeat([]byte{1}, 1000))
		token := bytes.Repeat([]byte{7}, 32)
		body = appendSubmission(body, id, dev, token, sent, size, []byte{1, 2})
		var request obscurapb.SendMessageRequest
		if err := proto.Unmarshal(body, &request); err != nil {
			t.Fatal(err)
		}
		m := request.GetMessages()[0]
		got, ok := readPayload(m.GetMessage())
		if len(request.GetMessages()) != 2 || len(m.GetMessage()) != size || !ok || got != sent ||
			!bytes.Equal(m.GetSubmissionId(), id[:]) || !bytes.Equal(m.GetDeviceId(), dev[:]) ||
			m.GetDeliveryToken() != nil || !bytes.Equal(request.GetMessages()[1].GetDeliveryToken(), token) {
			t.Errorf("size %d: %+v, %v, %d bytes", size, got, ok, len(m.GetMessage()))
		}
	}
	response, err := proto.Marshal(&obscurapb.SendMessageResponse{FailedSubmissions: []*obscurapb.FailedSubmission{
		{SubmissionId: id[:], ErrorCode: obscurapb.ErrorCode_ERROR_CODE_MAILBOX_FULL, ErrorMessage: "full"}}})
	if err != nil {
		t.Fatal(err)
	}
	failed := map[string]uint64{}
	if err := failedSubmissions(response, func(id []byte, code uint64) {
		failed[string(id)] = code
	}); err != nil || failed[string(id[:])] != 6 {
		t.Errorf("%v, %v", failed, err)
	}
}

func TestTheLoadReadsFramesAndAcknowledges(t *testing.T) {
	t.Parallel()
	first, second := uuid.New(), uuid.New()
	var f frame
	read := func(w *obscurapb.WebSocketFrame) {
		t.Helper()
		data, err := proto.Marshal(w)
		if err == nil {
			err = f.read(data)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	read(&obscurapb.WebSocketFrame{
		Payload: &obscurapb.WebSocketFrame_EnvelopeBatch{EnvelopeBatch: &obscurapb.EnvelopeBatch{
			Envelopes: []*obscurapb.Envelope{{Id: first[:], Timestamp: 5, Message: []byte("one"), Sequence: 300},
				{Id: second[:], Message: []byte("two")}}}}})
	if len(f.envelopes) != 2 || string(f.envelopes[1].message) != "two" || f.dropped != 0 {
		t.Fatalf("%+v", f)
	}
	var ack obscurapb.WebSocketFrame
	if err := proto.Unmarshal(appendAck(nil, f.envelopes), &ack); err != nil {
		t.Fatal(err)
	}
	if ids := ack.GetAck().GetMessageIds(); len(ids) != 2 || !bytes.Equal(ids[0], first[:]) ||
		!bytes.Equal(ids[1], second[:]) {
		t.Errorf("acknowledges %v", ids)
	}
	read(&obscurapb.WebSocketFrame{Payload: &obscurapb.WebSocketFrame_Gap{Gap: &obscurapb.Gap{From: 3, To: 7}}})
	if f.dropped != 5 || len(f.envelopes) != 0 {
		t.Errorf("a gap of 5: %+v", f)
	}
	read(&obscurapb.WebSocketFrame{
		Payload: &obscurapb.WebSocketFrame_PreKeyStatus{PreKeyStatus: &obscurapb.PreKeyStatus{OneTimePreKeyCount: 1}}})
	if f.dropped != 0 || len(f.envelopes) != 0 {
		t.Errorf("a status: %+v", f)
	}
	if f.read([]byte{0x6a, 0xff}) == nil {
		t.Error("a frame that is cut off was read")
	}
}
