package mailbox

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/internal/core"
)

// IDs is what the envelope ids of one device have in common. An id is 60 bits of the envelope's
// sequence and 62 bits that depend on its device, in the form of a version 4 UUID, since clients'
// libraries check that. It is derived and not stored: an acknowledgement leads to the primary key
// without an index, and an id of another device leads nowhere.
type IDs struct{ tag [8]byte }

// IDsOf hashes the device id, so that nobody hashes it for each envelope.
func IDsOf(device core.DeviceID) IDs {
	sum := sha256.Sum256(device[:])
	sum[0] = 0x80 | sum[0]&0x3f // the variant of RFC 9562
	return IDs{[8]byte(sum[:8])}
}

// Name names an envelope.
func (d IDs) Name(sequence int64) uuid.UUID {
	var id uuid.UUID
	seq := uint64(sequence)                          //nolint:gosec // sequences are positive
	binary.BigEndian.PutUint64(id[:], seq>>12<<16)   // 48 bits
	id[6], id[7] = 0x40|byte(seq>>8)&0x0f, byte(seq) //nolint:gosec // the lowest bits
	copy(id[8:], d.tag[:])
	return id
}

// Sequence reads an envelope id; ok is false for an id that is not the device's, or of any other
// form.
func (d IDs) Sequence(id []byte) (sequence int64, ok bool) {
	if len(id) != len(uuid.UUID{}) || id[6]&0xf0 != 0x40 || [8]byte(id[8:]) != d.tag {
		return 0, false
	}
	seq := binary.BigEndian.Uint64(id)>>16<<12 | uint64(id[6]&0x0f)<<8 | uint64(id[7])
	return int64(seq), true //nolint:gosec // 60 bits
}

// EnvelopeID names one envelope.
func EnvelopeID(device core.DeviceID, sequence int64) uuid.UUID { return IDsOf(device).Name(sequence) }
