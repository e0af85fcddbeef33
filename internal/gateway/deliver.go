package gateway

import (
	"context"

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
	// begun says that the gaps of earlier times have been told; told is the end of the last gap that was.
	begun bool
	told  int64
}

// deliver sends what is pending above the cursor, with the gaps before it, until there is no more or
// the window is full.
func (s *session) deliver() error {
	for more := true; more && !s.isFinished(); {
		if s.stall() {
			return nil
		}
		known, cursor := s.known.Load(), s.cursor.Load()
		page, err := s.readPage(cursor)
		if err != nil {
			return err
		}
		more = page.More
		end := cursor
		if n := len(page.Envelopes); n > 0 {
			end = page.Envelopes[n-1].Sequence
		}
		if !more {
			end = max(end, known)
		}
		holes := !s.delivery.begun || end-cursor > int64(len(page.Envelopes))
		if err := s.sendPage(page.Envelopes, holes, end); err != nil {
			return err
		}
		s.delivery.begun = true
		if err := s.sendDrained(); err != nil {
			return err
		}
	}
	return nil
}

// stall reports that the window is full; the next acknowledgement goes on.
func (s *session) stall() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.window.stalled = s.window.room() == 0
	return s.window.stalled
}

// readPage reads what is next above the cursor, as far as the window has room.
func (s *session) readPage(cursor int64) (page mailbox.Page, err error) {
	err = s.ask(func(ctx context.Context) (err error) {
		page, err = s.gateway.cfg.Mailbox.Read(ctx, s.principal.Device, cursor)
		return err
	})
	s.mu.Lock()
	room := s.window.room()
	s.mu.Unlock()
	if len(page.Envelopes) > room {
		page.Envelopes, page.More = page.Envelopes[:room], true
	}
	return page, err
}

// sendPage sends envelopes and, if there are holes, before the first that follows it each gap up to end.
func (s *session) sendPage(envelopes []core.Envelope, holes bool, end int64) error {
	from := s.delivery.told
	if s.delivery.begun { // what was sent on this socket and dropped since is told by sendLateGaps
		from = max(from, s.cursor.Load())
	}
	err := s.eachGap(holes, from, end, func(gap core.Gap) error {
		n := 0
		for n < len(envelopes) && envelopes[n].Sequence < gap.From {
			n++
		}
		if err := s.sendEnvelopes(envelopes[:n]); err != nil {
			return err
		}
		for n < len(envelopes) && envelopes[n].Sequence <= gap.To { // dropped since the page was read
			n++
		}
		envelopes = envelopes[n:]
		return s.sendGap(gap, max(gap.From, from+1), min(gap.To, end))
	})
	if err == nil {
		err = s.sendEnvelopes(envelopes)
	}
	if err == nil {
		s.cursor.Store(max(s.cursor.Load(), end))
	}
	return err
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
		s.sending(envelopes[:n])
		if err := s.send(frame); err != nil {
			return err
		}
		s.gateway.cfg.Counters.Delivered(n)
		envelopes = envelopes[n:]
		if err := s.answer(); err != nil {
			return err
		}
		if s.pressing() {
			return errYield // the rest is read again
		}
	}
	return nil
}

// sending notes what is about to be sent, before it is: an acknowledgement may be quick.
func (s *session) sending(envelopes []core.Envelope) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range envelopes {
		s.window.add(envelopes[i].Sequence, len(envelopes[i].Message))
	}
	s.cursor.Store(envelopes[len(envelopes)-1].Sequence)
}

func (s *session) envelope(e *core.Envelope) *obscurapb.Envelope {
	id := s.ids.Name(e.Sequence)
	return &obscurapb.Envelope{
		Id: id[:], SenderId: e.Sender[:], SenderDeviceId: e.SenderDevice[:], SenderDeviceNumber: uint32(e.SenderNumber),
		Timestamp: uint64(e.AcceptedAt.UnixMilli()), Sequence: uint64(e.Sequence), //nolint:gosec // positive
		Message: e.Message,
	}
}

// sendDrained tells, once, that the backlog at connect has been sent.
func (s *session) sendDrained() error {
	d := &s.delivery
	if d.drained || s.cursor.Load() < d.drainTo {
		return nil
	}
	d.drained = true
	return s.send(&obscurapb.WebSocketFrame{Payload: &obscurapb.WebSocketFrame_Drained{
		Drained: &obscurapb.Drained{Sequence: uint64(d.drainTo)}}}) //nolint:gosec // positive
}
