package gateway

import (
	"cmp"
	"slices"

	"github.com/obscura-relay/obscura/internal/core"
)

// windowSize is how many envelopes may be sent and not acknowledged: as many as a mailbox holds.
const windowSize = core.MailboxCap

// window is the envelopes of a session that were sent and not acknowledged. It makes every
// acknowledgement count once, so what waits to be deleted is bounded by what was delivered. The
// session's mutex guards it.
type window struct {
	sent  []sent // ascending
	bytes int    // of ciphertext in them
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
	w.bytes += bytes
}

// settle sorts out which acknowledged sequences are to be deleted: those that were sent and, up to the
// end of the backlog, those above the cursor that an earlier socket may have delivered.
func (w *window) settle(acknowledged []int64, cursor, backlog int64) []int64 {
	var out []int64
	for _, seq := range acknowledged {
		i, found := slices.BinarySearchFunc(w.sent, seq, func(s sent, seq int64) int { return cmp.Compare(s.sequence, seq) })
		if found {
			w.bytes -= int(w.sent[i].bytes)
			w.sent = slices.Delete(w.sent, i, i+1)
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
