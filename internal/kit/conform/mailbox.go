package conform

import (
	"time"

	"github.com/obscura-relay/obscura/gen/obscurapb"
)

// backlog is what a socket gets before Drained.
type backlog struct {
	envelopes []*obscurapb.Envelope
	gaps      []*obscurapb.Gap
	last      uint64
}

// drain reads until Drained. It acknowledges what it reads when told to: a relay may wait for that
// before it sends more than a window.
func (s *socket) drain(acknowledge bool) (b backlog) {
	for {
		switch p := s.next("Drained").GetPayload().(type) {
		case *obscurapb.WebSocketFrame_Drained:
			b.last = p.Drained.GetSequence()
			return b
		case *obscurapb.WebSocketFrame_Gap:
			b.gaps = append(b.gaps, p.Gap)
		case *obscurapb.WebSocketFrame_EnvelopeBatch:
			b.envelopes = append(b.envelopes, p.EnvelopeBatch.GetEnvelopes()...)
			if acknowledge {
				s.acknowledge(p.EnvelopeBatch.GetEnvelopes()...)
			}
		}
	}
}

// envelopes reads n envelopes. Frames that are not mail are passed over.
func (s *socket) envelopes(n int, what string) (all []*obscurapb.Envelope) {
	for len(all) < n {
		all = append(all, s.next(what).GetEnvelopeBatch().GetEnvelopes()...)
	}
	s.t.must(len(all) == n, "%d envelopes instead of %d: %s", len(all), n, what)
	return all
}

// status reads until the next PreKeyStatus.
func (s *socket) status() *obscurapb.PreKeyStatus {
	for {
		if status := s.next("PreKeyStatus").GetPreKeyStatus(); status != nil {
			return status
		}
	}
}

// pending opens a socket, reads the backlog and closes the socket again.
func (t *try) pending(d *device) backlog {
	s := t.connect(d)
	b := s.drain(false)
	s.leave()
	return b
}

// settles waits until the mailbox of a device holds as many envelopes as it should. An
// acknowledgement has no answer, so the only way is to look again.
func (t *try) settles(d *device, n int, what string) (b backlog) {
	pause := 50 * time.Millisecond
	for range 7 { // six seconds, and few tickets
		if b = t.pending(d); len(b.envelopes) == n {
			return b
		}
		t.wait(pause)
		pause *= 2
	}
	t.fail("%s: the mailbox holds %d envelopes, want %d", what, len(b.envelopes), n)
	return b
}

// covered returns the sequences that a backlog delivers or reports as gaps.
func (b backlog) covered() map[uint64]bool {
	all := map[uint64]bool{}
	for _, e := range b.envelopes {
		all[e.GetSequence()] = true
	}
	for _, gap := range b.gaps {
		for n := gap.GetFrom(); n <= gap.GetTo() && len(all) < 10_000; n++ {
			all[n] = true
		}
	}
	return all
}

// dropped counts the sequences in gaps of a reason.
func (b backlog) dropped(reason obscurapb.Gap_Reason) int {
	all := backlog{}
	for _, gap := range b.gaps {
		if gap.GetReason() == reason {
			all.gaps = append(all.gaps, gap)
		}
	}
	return len(all.covered())
}
