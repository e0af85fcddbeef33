package bench

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/encoding/protowire"
)

// The frames and bodies of obscura.proto, by hand: the load shares its processors with the relay,
// and this costs a tenth of the generated code.

// A payload begins with what the ledger needs to know; the rest is filler that does not compress.
type payload struct {
	run    uint64 // tells this run's payloads from those of others
	number uint64
	due    time.Duration // since the run's start
	device uint32
	sender uint32
}

const payloadHeader = 32

func (p payload) append(dst []byte, size int, filler []byte) []byte {
	dst = binary.BigEndian.AppendUint64(dst, p.run)
	dst = binary.BigEndian.AppendUint64(dst, p.number)
	dst = binary.BigEndian.AppendUint64(dst, uint64(p.due))
	dst = binary.BigEndian.AppendUint32(dst, p.device)
	dst = binary.BigEndian.AppendUint32(dst, p.sender)
	for left := size - payloadHeader; left > 0; left -= len(filler) {
		dst = append(dst, filler[:min(left, len(filler))]...)
	}
	return dst
}

func readPayload(b []byte) (p payload, ok bool) {
	if len(b) < payloadHeader {
		return p, false
	}
	p.run, p.number = binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])
	p.due = time.Duration(binary.BigEndian.Uint64(b[16:]))
	p.device, p.sender = binary.BigEndian.Uint32(b[24:]), binary.BigEndian.Uint32(b[28:])
	return p, true
}

// appendSubmission appends one Submission to a SendMessageRequest; token is nil in a named one.
func appendSubmission(dst []byte, id, device uuid.UUID, token []byte, p payload, size int, filler []byte) []byte {
	length := 2*(2+16) + 1 + protowire.SizeBytes(size)
	if len(token) > 0 {
		length += 1 + protowire.SizeBytes(len(token))
	}
	dst = protowire.AppendTag(dst, 1, protowire.BytesType)
	dst = protowire.AppendVarint(dst, uint64(length))
	dst = protowire.AppendTag(dst, 1, protowire.BytesType)
	dst = protowire.AppendBytes(dst, id[:])
	dst = protowire.AppendTag(dst, 2, protowire.BytesType)
	dst = protowire.AppendBytes(dst, device[:])
	if len(token) > 0 {
		dst = protowire.AppendTag(dst, 4, protowire.BytesType)
		dst = protowire.AppendBytes(dst, token)
	}
	dst = protowire.AppendTag(dst, 3, protowire.BytesType)
	dst = protowire.AppendVarint(dst, uint64(size))
	return p.append(dst, size, filler)
}

var errWire = errors.New("not a message of the contract")

// fields calls fn for every field of a message: bytes for a length-delimited one, else its number.
func fields(b []byte, fn func(field protowire.Number, bytes []byte, number uint64) error) error {
	for len(b) > 0 {
		field, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return errWire
		}
		b = b[n:]
		var value []byte
		var number uint64
		switch kind {
		case protowire.BytesType:
			value, n = protowire.ConsumeBytes(b)
		case protowire.VarintType:
			number, n = protowire.ConsumeVarint(b)
		default:
			n = protowire.ConsumeFieldValue(field, kind, b)
		}
		if n < 0 {
			return errWire
		}
		b = b[n:]
		if err := fn(field, value, number); err != nil {
			return err
		}
	}
	return nil
}

// envelope is what the load needs of an Envelope.
type envelope struct{ id, message []byte }

// A frame is what the load needs of a WebSocketFrame. It points into what it was read from.
type frame struct {
	envelopes []envelope
	dropped   int64 // how many envelopes a Gap reports
}

func (f *frame) read(b []byte) error {
	f.envelopes, f.dropped = f.envelopes[:0], 0
	return fields(b, func(field protowire.Number, value []byte, _ uint64) error {
		switch field {
		case 13:
			return fields(value, func(field protowire.Number, value []byte, _ uint64) error {
				if field != 1 {
					return nil
				}
				f.envelopes = append(f.envelopes, envelope{})
				return f.envelopes[len(f.envelopes)-1].read(value)
			})
		case 14:
			var from, to int64
			err := fields(value, func(field protowire.Number, _ []byte, number uint64) error {
				switch field {
				case 1:
					from = int64(number)
				case 2:
					to = int64(number)
				}
				return nil
			})
			f.dropped = to - from + 1
			return err
		}
		return nil
	})
}

func (e *envelope) read(b []byte) error {
	return fields(b, func(field protowire.Number, value []byte, _ uint64) error {
		switch field {
		case 1:
			e.id = value
		case 4:
			e.message = value
		}
		return nil
	})
}

// appendAck makes the AckMessage frame for envelopes.
func appendAck(dst []byte, envelopes []envelope) []byte {
	size := 0
	for i := range envelopes {
		size += 1 + protowire.SizeBytes(len(envelopes[i].id))
	}
	dst = protowire.AppendTag(dst, 11, protowire.BytesType)
	dst = protowire.AppendVarint(dst, uint64(size))
	for i := range envelopes {
		dst = protowire.AppendTag(dst, 1, protowire.BytesType)
		dst = protowire.AppendBytes(dst, envelopes[i].id)
	}
	return dst
}

// failedSubmissions calls fn with the id and the error code of each failure in a
// SendMessageResponse.
func failedSubmissions(b []byte, fn func(id []byte, code uint64)) error {
	return fields(b, func(field protowire.Number, value []byte, _ uint64) error {
		if field != 1 {
			return nil
		}
		var id []byte
		var code uint64
		err := fields(value, func(field protowire.Number, value []byte, number uint64) error {
			switch field {
			case 1:
				id = value
			case 2:
				code = number
			}
			return nil
		})
		fn(id, code)
		return err
	})
}
