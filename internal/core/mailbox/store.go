package mailbox

import (
	"context"
	"slices"
	"time"

	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/storage"
)

// store works on a batch of requests. When it meets many full mailboxes, or a request that cannot
// be stored, it works on each half by itself: a poisoned request fails alone.
func (s *Service) store(ctx context.Context, b *bucket, requests []*sendRequest) ([]sendAnswer, error) {
	b.letAcknowledgementsPass()
	answers, err := s.storeOnce(ctx, b, requests)
	poisoned := err != nil && core.KindOf(err) == 0 // not the database's state: one request's content
	if !poisoned {
		return answers, err
	}
	if len(requests) == 1 {
		return []sendAnswer{{err: err}}, nil
	}
	half := len(requests) / 2
	answers = nil
	for _, part := range [][]*sendRequest{requests[:half], requests[half:]} {
		some, err := s.store(ctx, b, part)
		if err != nil { // the other part may be stored
			some = slices.Repeat([]sendAnswer{{err: err}}, len(part))
		}
		answers = append(answers, some...)
	}
	return answers, nil
}

// When acknowledgements pile up they go first, for a while: what they delete would otherwise fill
// mailboxes, and room would have to be made.
const (
	manyAcks    = 2048
	acksGoFirst = 100 * time.Millisecond
)

func (b *bucket) letAcknowledgementsPass() {
	for deadline := time.After(acksGoFirst); ; {
		if waiting, _ := b.acks.len(); waiting <= manyAcks {
			return
		}
		select {
		case <-b.acked:
		case <-deadline:
			return
		}
	}
}

// storeOnce works on a batch in one transaction: either all of its new requests are stored or none
// is.
func (s *Service) storeOnce(ctx context.Context, b *bucket, requests []*sendRequest) ([]sendAnswer, error) {
	p := newPass(b.number, requests)
	ctx, cancel := context.WithTimeout(ctx, s.txTime)
	defer cancel()
	if len(s.buckets) > 1 {
		if err := s.cfg.DB.Do(ctx, func(conn *storage.Tx) error { return p.askAccountsBefore(ctx, conn) }); err != nil {
			return nil, err
		}
	}
	err := s.cfg.DB.In(b.number).InPipeline(ctx, func(tx *storage.Tx) error { return p.store(ctx, tx) })
	if err != nil {
		return nil, err
	}
	s.cfg.Counters.Accepted(p.accepted)
	if p.dropped > 0 {
		s.cfg.Counters.Dropped(core.GapCap, p.dropped)
	}
	if p.outdated > 0 {
		s.cfg.Counters.Dropped(core.GapTakeover, p.outdated)
	}
	s.deliverLocal(p.mailboxes)
	return p.answers, nil
}

// deliverLocal gives what was committed to the sockets that are here, and announces the rest.
func (s *Service) deliverLocal(mailboxes map[core.DeviceID]*lockedMailbox) {
	elsewhere := core.Notice{Kind: core.NoticeMail}
	for device, m := range mailboxes {
		kept := m.added
		if len(m.dropped) > 0 {
			kept = slices.DeleteFunc(kept, func(e core.Envelope) bool { return slices.Contains(m.dropped, e.Sequence) })
		}
		if len(kept) > 0 && !s.cfg.Sockets.Offer(device, kept) {
			elsewhere.IDs = append(elsewhere.IDs, device)
		}
	}
	if len(elsewhere.IDs) > 0 {
		s.cfg.Sockets.Announce(elsewhere)
	}
}
