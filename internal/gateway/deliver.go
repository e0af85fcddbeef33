package gateway

import (
	"github.com/obscura-relay/obscura/gen/obscurapb"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/core/mailbox"
)

// frameBytes is how much ciphertext one EnvelopeBatch carries, unless a single envelope is larger.
const frameBytes = 64 << 10

// delivery is what the pump remembers between two rounds.
type delivery struct {
	// drainTo is the last sequence of the backlog at connect; drained says that its end was told.
	drainTo int64
	drained bool
	// begun says that the gaps of earlier times have been read.
	begun bool
}

// deliver sends what is pending above the cursor, with the gaps before it, until there is no more. It
// returns an error when the socket is broken; a failing database only postpones.
func (s *session) deliver() error {
	for !s.isFinished() {
		known := s.known.Load()
		page, err := s.gateway.cfg.Mailbox.Read(s.ctx, s.principal.Device, s.cursor.Load())
		if err != nil {
			s.retry.Reset(retryAfter)
			return nil
		}
		end := s.cursor.Load()
		if n := len(page.Envelopes); n > 0 {
			end = page.Envelopes[n-1].Sequence
		}
		if !page.More {
			end = max(end, known)
		}
		var gaps []core.Gap
		if !s.delivery.begun || end-s.cursor.Load() > int64(len(page.Envelopes)) {
			if gaps, err = s.gateway.cfg.Mailbox.Gaps(s.ctx, s.principal.Device); err != nil {
				s.retry.Reset(retryAfter)
				return nil
			}
		}
		if err := s.sendPage(page.Envelopes, gaps, end); err != nil {
			return err
		}
		s.delivery.begun = true
		if err := s.sendDrained(); err != nil {
			return err
		}
		if !page.More {
			return nil
		}
	}
	return nil
}

// sendPage sends envelopes and, before the first that follows it, each gap up to end.
func (s *session) sendPage(envelopes []core.Envelope, gaps []core.Gap, end int64) error {
	from := s.cursor.Load() // what was dropped at or below it was told, unless this is the beginning
	if !s.delivery.begun {
		from = 0
	}
	for _, gap := range gaps {
		if gap.To <= from || gap.From > end {
			continue
		}
		n := 0
		for n < len(envelopes) && envelopes[n].Sequence < gap.From {
			n++
		}
		if err := s.sendEnvelopes(envelopes[:n]); err != nil {
			return err
		}
		envelopes = envelopes[n:]
		if err := s.sendGap(gap, max(gap.From, from+1)); err != nil {
			return err
		}
	}
	if err := s.sendEnvelopes(envelopes); err != nil {
		return err
	}
	s.cursor.Store(max(s.cursor.Load(), end))
	return nil
}

// sendEnvelopes sends envelopes in frames of a bounded size and moves the cursor behind each frame.
func (s *session) sendEnvelopes(envelopes []core.Envelope) error {
	for len(envelopes) > 0 {
		n, size := 0, 0
		for n < len(envelopes) && (n == 0 || size+len(envelopes[n].Message) <= frameBytes) {
			size += len(envelopes[n].Message)
			n++
		}
		batch := &obscurapb.EnvelopeBatch{Envelopes: make([]*obscurapb.Envelope, n)}
		for i := range n {
			batch.Envelopes[i] = s.envelope(&envelopes[i])
		}
		frame := &obscurapb.WebSocketFrame{Payload: &obscurapb.WebSocketFrame_EnvelopeBatch{EnvelopeBatch: batch}}
		if err := s.write(frame); err != nil {
			return err
		}
		s.cursor.Store(envelopes[n-1].Sequence)
		s.gateway.cfg.Counters.Delivered(n)
		envelopes = envelopes[n:]
	}
	return nil
}

func (s *session) envelope(e *core.Envelope) *obscurapb.Envelope {
	id := mailbox.EnvelopeID(s.principal.Device, e.Sequence)
	return &obscurapb.Envelope{
		Id: id[:], SenderId: e.Sender[:], SenderDeviceId: e.SenderDevice[:], SenderDeviceNumber: uint32(e.SenderNumber),
		Timestamp: uint64(e.AcceptedAt.UnixMilli()), Sequence: uint64(e.Sequence), //nolint:gosec // positive
		Message: e.Message,
	}
}

// sendGap tells of a gap, or of the part of it from a sequence on, and remembers it as it is stored.
func (s *session) sendGap(gap core.Gap, from int64) error {
	err := s.write(&obscurapb.WebSocketFrame{Payload: &obscurapb.WebSocketFrame_Gap{Gap: &obscurapb.Gap{
		From: uint64(from), To: uint64(gap.To), Reason: obscurapb.Gap_Reason(gap.Reason)}}}) //nolint:gosec // positive
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reported = append(s.reported, gap)
	return nil
}

// sendDrained tells, once, that the backlog at connect has been sent.
func (s *session) sendDrained() error {
	d := &s.delivery
	if d.drained || s.cursor.Load() < d.drainTo {
		return nil
	}
	d.drained = true
	return s.write(&obscurapb.WebSocketFrame{Payload: &obscurapb.WebSocketFrame_Drained{
		Drained: &obscurapb.Drained{Sequence: uint64(d.drainTo)}}}) //nolint:gosec // positive
}
