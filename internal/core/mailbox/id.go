package mailbox

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/internal/core"
)

// EnvelopeID names an envelope: 60 bits of its sequence and 62 bits that depend on its device, in the
// form of a version 4 UUID, since clients' libraries check that. It is derived and not stored: an
// acknowledgement leads to the primary key without an index, and an id of another device leads nowhere.
func EnvelopeID(device core.DeviceID, sequence int64) uuid.UUID {
	var id uuid.UUID
	seq := uint64(sequence)                        //nolint:gosec // sequences are positive
	binary.BigEndian.PutUint64(id[:], seq>>12<<16) // 48 bits
	id[6], id[7] = 0x40|byte(seq>>8)&0x0f, byte(seq)
	tag := deviceTag(device)
	copy(id[8:], tag[:])
	return id
}

// sequenceOf reads an envelope id; ok is false for an id that is not the device's.
func sequenceOf(device core.DeviceID, id []byte) (sequence int64, ok bool) {
	tag := deviceTag(device)
	if len(id) != len(uuid.UUID{}) || [8]byte(id[8:]) != tag || id[6]&0xf0 != 0x40 {
		return 0, false
	}
	seq := binary.BigEndian.Uint64(id)>>16<<12 | uint64(id[6]&0x0f)<<8 | uint64(id[7])
	return int64(seq), true //nolint:gosec // 60 bits
}

func deviceTag(device core.DeviceID) [8]byte {
	sum := sha256.Sum256(device[:])
	sum[0] = 0x80 | sum[0]&0x3f // the variant of RFC 9562
	return [8]byte(sum[:8])
}
