package gateway

import (
	"errors"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/obscura-relay/obscura/internal/core/mailbox"
)

// Numbers of fields in obscura.proto.
const (
	ackField        = 11 // WebSocketFrame.ack, the only payload that a client sends; ours are 12 and up
	lastPayload     = 15
	messageIDsField = 1 // AckMessage.message_ids
)

var errFrame = errors.New("not a frame that a client sends")

// decodeAck reads the sequences out of an acknowledgement frame. Ids that are not the device's are
// left out. It walks over the bytes: a frame holds up to 32,000 ids, which would take thirty times
// their size if each became a slice first.
func decodeAck(ids mailbox.IDs, data []byte) (sequences []int64, err error) {
	acks := 0
	err = eachField(data, func(number protowire.Number, value []byte) error {
		switch {
		case number == ackField:
			acks++
			return eachField(value, func(number protowire.Number, value []byte) error {
				if seq, ok := ids.Sequence(value); ok && number == messageIDsField {
					sequences = append(sequences, seq)
				}
				return nil
			})
		case number > ackField && number <= lastPayload:
			return errFrame
		}
		return nil
	})
	if err != nil || acks == 0 {
		return nil, errFrame
	}
	return sequences, nil
}

// eachField calls do with each field that has bytes. Others are passed over.
func eachField(data []byte, do func(protowire.Number, []byte) error) error {
	for len(data) > 0 {
		number, kind, n := protowire.ConsumeTag(data)
		if n < 0 {
			return errFrame
		}
		data = data[n:]
		if kind != protowire.BytesType {
			if n = protowire.ConsumeFieldValue(number, kind, data); n < 0 {
				return errFrame
			}
			data = data[n:]
			continue
		}
		value, n := protowire.ConsumeBytes(data)
		if n < 0 {
			return errFrame
		}
		if err := do(number, value); err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}
