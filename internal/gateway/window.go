package gateway

import (
	"slices"

	"github.com/obscura-relay/obscura/internal/core"
)

// windowSize is how many envelopes may be sent and not acknowledged: as many as a mailbox holds.
const windowSize = core.MailboxCap

// window is the envelopes of a session that were sent and not acknowledged. It makes every
// acknowledgement count once, so what waits to be deleted is bounded by what was delivered. The
// session's mutex guards it.
type window struct {
	// sent is ascending.
	sent []int64
	// early are acknowledgements, on this socket, of what an earlier socket delivered.
	early map[int64]bool
	// stalled says that delivery waits for room.
	stalled bool
}

// room returns how many envelopes may be sent now.
func (w *window) room() int { return max(0, windowSize-len(w.sent)) }

func (w *window) add(sequence int64) { w.sent = append(w.sent, sequence) }

// settle sorts out which acknowledged sequences are to be deleted: those that were sent and, up to the
// end of the backlog, those above the cursor that an earlier socket may have delivered.
func (w *window) settle(acknowledged []int64, cursor, backlog int64) []int64 {
	var out []int64
	for _, seq := range acknowledged {
		if i, found := slices.BinarySearch(w.sent, seq); found {
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
