package faults_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"math/rand/v2"
	"slices"

	"github.com/google/uuid"
)

// parcel is one message as its sender knows it. The ledger's mutex guards what changes.
type parcel struct {
	id       uuid.UUID
	from, to *device
	// n counts the sender's requests: a later one was begun when the earlier had been told.
	n int

	told, invalid bool
	failures      int
}

// The ciphertext of a parcel: a label and filling, which many parcels may share. The label says who
// it is for, who it is from and its name, and has a digest of all that and of the filling.
const (
	namesSize = 3 * 16
	labelSize = namesSize + sha256.Size
)

func (p *parcel) label(filling []byte) []byte {
	out := make([]byte, 0, labelSize)
	out = append(append(append(out, p.to.id[:]...), p.from.id[:]...), p.id[:]...)
	digest := digestOf(out, filling)
	return append(out, digest[:]...)
}

func digestOf(names, filling []byte) [sha256.Size]byte {
	return sha256.Sum256(slices.Concat(names, filling))
}

func fill(size int) []byte { return bytes.Repeat([]byte{byte(rand.N(256))}, size) }

// unwrap reads the label of a ciphertext.
func unwrap(message []byte) (to, from, id uuid.UUID, err error) {
	if len(message) < labelSize {
		return to, from, id, errors.New("too short")
	}
	names, filling := message[:namesSize], message[labelSize:]
	if digestOf(names, filling) != [sha256.Size]byte(message[namesSize:]) {
		return to, from, id, errors.New("damaged")
	}
	return uuid.UUID(names[:16]), uuid.UUID(names[16:32]), uuid.UUID(names[32:]), nil
}
