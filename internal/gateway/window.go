package gateway

import (
	"cmp"
	"slices"
	"sync/atomic"

	"github.com/obscura-relay/obscura/internal/core"
)

// windowSize is how many envelopes may be sent and not acknowledged: as many as a mailbox holds.
const windowSize = core.MailboxCap

// window is the envelopes of a delivery that were sent and not acknowledged. It makes every
// acknowledgement count once, so what waits to be deleted is bounded by what was delivered. The
// delivery's mutex guards it until the pump and the reader have ended; anybody reads the bytes.
type window struct {
	sent  []sent       // ascending
	bytes atomic.Int64 // of ciphertext in them
	// acked is the highest sequence that was sent on this socket and then acknowledged on it.
	acked int64
	// early are acknowledgements, on this socket, of what an earlier socket delivered.
	early map[int64]bool
	// stalled says that delivery waits for room.
	stalled bool
}

// sent is an envelope that was sent.
type sent struct {
	sequence int64
	bytes    int32
}

// room returns how many envelopes may be sent now.
func (w *window) room() int { return max(0, windowSize-len(w.sent)) }

func (w *window) add(sequence int64, bytes int) {
	w.sent = append(w.sent, sent{sequence, int32(bytes)}) //nolint:gosec // at most core.MaxMessage
	w.bytes.Add(int64(bytes))
}

// settle sorts out which acknowledged sequences are to be deleted: those that were sent and, up to
// the end of the backlog, those above the cursor that an earlier socket may have delivered.
func (w *window) settle(acknowledged []int64, cursor, backlog int64) []int64 {
	var out []int64
	for _, seq := range acknowledged {
		i, found := w.find(seq)
		if found {
			w.bytes.Add(-int64(w.sent[i].bytes))
			w.sent = slices.Delete(w.sent, i, i+1)
			w.acked = max(w.acked, seq)
			out = append(out, seq)
			continue
		}
		if seq > cursor && seq <= backlog && !w.early[seq] && len(w.early) < windowSize {
			if w.early == nil {
				w.early = map[int64]bool{}
			}
			w.early[seq] = true
			out = append(out, seq)
		}
	}
	if len(w.sent) == 0 {
		w.sent = nil // an idle socket holds nothing
	}
	return out
}

// skipped returns what the client passed over: it was sent, and something that was sent behind it
// has been acknowledged. An early acknowledgement says nothing of what has arrived on this socket.
func (w *window) skipped() []int64 {
	n, _ := w.find(w.acked)
	sequences := make([]int64, n)
	for i := range sequences {
		sequences[i] = w.sent[i].sequence
	}
	return sequences
}

// find returns where a sequence is in sent, or would be.
func (w *window) find(sequence int64) (i int, found bool) {
	return slices.BinarySearchFunc(w.sent, sequence, func(s sent, sequence int64) int {
		return cmp.Compare(s.sequence, sequence)
	})
}
