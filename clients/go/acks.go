package obscura

import (
	"sync"

	"github.com/google/uuid"
)

const (
	// acksInFrame is how many ids a frame may hold: 18 bytes each, well below the relay's 64 KiB.
	acksInFrame = 1000
	// acksRemembered is how many acknowledged envelopes, and up to twice as many, are known when
	// they come again: a mailbox holds 1000.
	acksRemembered = 1000
)

// acks are the acknowledgements of a device: those to be sent, and those that were made lately.
type acks struct {
	// wake holds a value when there is something to send.
	wake chan struct{}

	mu            sync.Mutex
	unsent        []uuid.UUID         // guarded by mu
	recent, older map[uint64]struct{} // guarded by mu: the sequences of those that were made
}

func newAcks() *acks { return &acks{wake: make(chan struct{}, 1), recent: make(map[uint64]struct{})} }

// add takes acknowledgements of the application.
func (a *acks) add(envelopes []*Envelope) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, e := range envelopes {
		if len(a.recent) == acksRemembered {
			a.recent, a.older = make(map[uint64]struct{}), a.recent
		}
		a.recent[e.Sequence] = struct{}{}
		a.unsent = append(a.unsent, e.ID)
	}
	a.signal()
}

// again reports whether an envelope was acknowledged before, and if so acknowledges it again: the
// relay did not hear it.
func (a *acks) again(e *Envelope) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, recent := a.recent[e.Sequence]
	_, older := a.older[e.Sequence]
	if recent || older {
		a.unsent = append(a.unsent, e.ID)
		a.signal()
	}
	return recent || older
}

// take returns up to a frame of ids to send.
func (a *acks) take() []uuid.UUID {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := min(len(a.unsent), acksInFrame)
	ids := a.unsent[:n:n]
	a.unsent = a.unsent[n:]
	return ids
}

// giveBack returns ids that may not have been sent, for the next socket.
func (a *acks) giveBack(ids []uuid.UUID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.unsent = append(ids, a.unsent...)
	a.signal()
}

func (a *acks) signal() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}
