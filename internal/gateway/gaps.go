package gateway

import (
	"cmp"
	"context"
	"slices"

	"github.com/obscura-relay/obscura/gen/obscurapb"
	"github.com/obscura-relay/obscura/internal/core"
)

const (
	// lateGapsEvery is after how many acknowledgements the gaps are looked at behind the cursor. Only
	// between acknowledgements can drops leave gaps apart from each other, so this bounds their number.
	lateGapsEvery = 512
	// maxReported is how many gaps a session remembers; those beyond it are told again. As many as an
	// acknowledging device can make of its mailbox between two looks.
	maxReported = core.MailboxCap + lateGapsEvery
)

// eachGap calls tell with each gap that reaches above a sequence and begins at or below last.
func (s *session) eachGap(more bool, after, last int64, tell func(core.Gap) error) error {
	for more {
		var gaps []core.Gap
		err := s.ask(func(ctx context.Context) (err error) {
			gaps, more, err = s.gateway.cfg.Mailbox.Gaps(ctx, s.principal.Device, after, last)
			return err
		})
		if err != nil {
			return err
		}
		for _, gap := range gaps {
			if err := tell(gap); err != nil {
				return err
			}
			after = gap.To
		}
	}
	return nil
}

// sendGap tells of a part of a gap. Once its end is told the gap may be forgotten, as it is stored now.
func (s *session) sendGap(gap core.Gap, from, to int64) error {
	err := s.send(&obscurapb.WebSocketFrame{Payload: &obscurapb.WebSocketFrame_Gap{Gap: &obscurapb.Gap{
		From: uint64(from), To: uint64(to), Reason: obscurapb.Gap_Reason(gap.Reason)}}}) //nolint:gosec // positive
	if err != nil {
		return err
	}
	s.delivery.told = max(s.delivery.told, to)
	if to < gap.To {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	i, told := s.findReported(gap.From)
	if told {
		s.reported[i] = gap
		return nil
	}
	s.reported = slices.Insert(s.reported, i, gap)
	s.reported = s.reported[:min(len(s.reported), maxReported)]
	return nil
}

func (s *session) findReported(from int64) (int, bool) {
	return slices.BinarySearchFunc(s.reported, from, func(g core.Gap, from int64) int { return cmp.Compare(g.From, from) })
}

// sendLateGaps tells of what was sent on this socket and dropped since, so that it can be forgotten.
func (s *session) sendLateGaps() error {
	cursor := s.cursor.Load()
	return s.eachGap(s.delivery.begun, 0, cursor, func(gap core.Gap) error {
		s.mu.Lock()
		i, told := s.findReported(gap.From)
		told = told && s.reported[i] == gap
		s.mu.Unlock()
		if told || gap.To > cursor { // one that goes on is told with what follows it
			return nil
		}
		return s.sendGap(gap, gap.From, gap.To)
	})
}
