package obscura

import (
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/obscura-relay/obscura/gen/obscurapb"
)

// Event is what a gateway hands out: an *Envelope, *Gap, *Drained, *PreKeyStatus or *Disconnected.
type Event interface{ event() }

// Envelope is a message for this device. Decrypt it, store the result, then acknowledge it. It
// comes at least once: what was not acknowledged comes again on the next socket, so remember what
// you have processed.
type Envelope struct {
	ID uuid.UUID
	// Sequence counts 1, 2, 3 and so on for this device, without holes: every number comes in an
	// envelope or in a gap.
	Sequence uint64
	// SenderID is the sending user. When the relay was not told who writes, this and the other two
	// that name the sender are zero: the certificate inside the message says it.
	SenderID uuid.UUID
	// SenderDeviceNumber is 1 to 127.
	SenderDeviceNumber uint32
	// SenderDeviceID is the mailbox to answer to; with SenderDeviceNumber, libsignal's
	// ProtocolAddress.
	SenderDeviceID uuid.UUID
	// Accepted is when the relay accepted it, to the millisecond. It is the time for which a sender
	// certificate inside is checked.
	Accepted time.Time
	// Message is the ciphertext.
	Message []byte
}

// Gap says that the envelopes From to To, both included, were dropped and will not come. It may be
// told in parts and more than once.
type Gap struct {
	From, To uint64
	Reason   obscurapb.Gap_Reason
}

// Drained says that everything that was pending when the socket opened has been handed out, up to
// Sequence.
type Drained struct {
	// Sequence is 0 when nothing was ever accepted for this device.
	Sequence uint64
}

// PreKeyStatus says how many one-time keys the relay holds. It is the first event of every socket,
// and comes when keys run low.
type PreKeyStatus struct {
	OneTime, Kyber int
	// Threshold: refill a kind that has fewer.
	Threshold int
}

// Disconnected says that there is no socket, why, and after how long the next try begins.
type Disconnected struct {
	Err   error
	After time.Duration
}

func (*Envelope) event()     {}
func (*Gap) event()          {}
func (*Drained) event()      {}
func (*PreKeyStatus) event() {}
func (*Disconnected) event() {}

// decode reads a frame. One that this package does not know holds no events.
func decode(data []byte) ([]Event, error) {
	var frame obscurapb.WebSocketFrame
	if err := proto.Unmarshal(data, &frame); err != nil {
		return nil, fmt.Errorf("the relay's frame cannot be read: %w", err)
	}
	switch p := frame.GetPayload().(type) {
	case *obscurapb.WebSocketFrame_EnvelopeBatch:
		events := make([]Event, len(p.EnvelopeBatch.GetEnvelopes()))
		for i, e := range p.EnvelopeBatch.GetEnvelopes() {
			envelope, err := envelopeOf(e)
			if err != nil {
				return nil, err
			}
			events[i] = envelope
		}
		return events, nil
	case *obscurapb.WebSocketFrame_Gap:
		return []Event{&Gap{From: p.Gap.GetFrom(), To: p.Gap.GetTo(), Reason: p.Gap.GetReason()}}, nil
	case *obscurapb.WebSocketFrame_Drained:
		return []Event{&Drained{Sequence: p.Drained.GetSequence()}}, nil
	case *obscurapb.WebSocketFrame_PreKeyStatus:
		return []Event{&PreKeyStatus{OneTime: int(p.PreKeyStatus.GetOneTimePreKeyCount()),
			Kyber:     int(p.PreKeyStatus.GetKyberPreKeyCount()),
			Threshold: int(p.PreKeyStatus.GetMinThreshold())}}, nil
	}
	return nil, nil
}

func envelopeOf(e *obscurapb.Envelope) (*Envelope, error) {
	id, err1 := uuid.FromBytes(e.GetId())
	sender, err2 := senderOf(e.GetSenderId())
	device, err3 := senderOf(e.GetSenderDeviceId())
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, fmt.Errorf("the relay's envelope cannot be read: %w", err)
	}
	return &Envelope{ID: id, Sequence: e.GetSequence(), SenderID: sender, SenderDeviceNumber: e.GetSenderDeviceNumber(),
		SenderDeviceID: device,
		Accepted:       time.UnixMilli(int64(e.GetTimestamp())), Message: e.GetMessage()}, nil //nolint:gosec // milliseconds
}

// senderOf reads an id that an envelope need not have.
func senderOf(id []byte) (uuid.UUID, error) {
	if len(id) == 0 {
		return uuid.Nil, nil
	}
	return uuid.FromBytes(id)
}
