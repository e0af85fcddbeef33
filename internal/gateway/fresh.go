package gateway

import (
	"errors"

	"github.com/obscura-relay/obscura/internal/core"
)

// How much a session keeps of what was offered and not taken. Beyond it the mailbox is read.
const (
	maxFresh      = 64
	maxFreshBytes = 128 << 10
)

// offer keeps committed envelopes for the pump, while there is room. It reports false when the session
// is finished.
func (s *session) offer(envelopes []core.Envelope) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.finished {
		return false
	}
	for i := range envelopes {
		s.freshBytes += len(envelopes[i].Message)
	}
	s.fresh = append(s.fresh, envelopes...)
	todo := doFresh
	if len(s.fresh) > maxFresh || s.freshBytes > maxFreshBytes {
		s.fresh, s.freshBytes = nil, 0
		todo = doMail
	}
	s.start(todo)
	return true
}

// takeFresh takes what was offered. It returns false when the mailbox must be read instead: the offer is
// not next in line behind the cursor, or there is no room for it.
func (s *session) takeFresh() (next []core.Envelope, inLine bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fresh := s.fresh
	s.fresh, s.freshBytes = nil, 0
	cursor := s.cursor.Load()
	for len(fresh) > 0 && fresh[0].Sequence <= cursor {
		fresh = fresh[1:] // read from the mailbox meanwhile
	}
	if !s.delivery.drained || len(fresh) > s.window.room() {
		return nil, false
	}
	for i := range fresh {
		if fresh[i].Sequence != cursor+1+int64(i) {
			return nil, false
		}
	}
	return fresh, true
}

// deliverFresh sends what was offered, or has the mailbox read instead.
func (s *session) deliverFresh() error {
	fresh, inLine := s.takeFresh()
	err := s.sendEnvelopes(fresh)
	if !inLine || errors.Is(err, errYield) { // what was taken is in the mailbox only
		s.kick(doMail)
		return nil
	}
	return err
}
