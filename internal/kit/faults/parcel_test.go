package faults_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"math/rand/v2"

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

// The ciphertext of a parcel: who it is for, who it is from, its name, filling, and a digest of all
// that.
const labelSize = 3 * 16

func (p *parcel) wrap(filling int) []byte {
	out := make([]byte, 0, labelSize+filling+sha256.Size)
	out = append(append(append(out, p.to.id[:]...), p.from.id[:]...), p.id[:]...)
	out = append(out, bytes.Repeat([]byte{byte(rand.N(256))}, filling)...)
	digest := sha256.Sum256(out)
	return append(out, digest[:]...)
}

// unwrap reads the label of a ciphertext.
func unwrap(message []byte) (to, from, id uuid.UUID, err error) {
	if len(message) < labelSize+sha256.Size {
		return to, from, id, errors.New("too short")
	}
	content := message[:len(message)-sha256.Size]
	if sha256.Sum256(content) != [sha256.Size]byte(message[len(content):]) {
		return to, from, id, errors.New("damaged")
	}
	return uuid.UUID(content[:16]), uuid.UUID(content[16:32]), uuid.UUID(content[32:48]), nil
}
