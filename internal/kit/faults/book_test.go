package faults_test

import (
	"fmt"
	"sync"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/gen/obscurapb"
)

// book is what one device saw and was told, over all its connections.
type book struct {
	owner    *device
	complain func(format string, args ...any)

	mu       sync.Mutex
	seen     map[uint64]uuid.UUID // guarded by mu: sequence to parcel
	acked    map[uint64]bool      // guarded by mu: an acknowledgement was sent, or tried
	gapped   map[uint64]bool      // guarded by mu: reported as a gap
	repeated int                  // guarded by mu: envelopes that came again, on another connection
}

func newBook(owner *device, complain func(string, ...any)) *book {
	return &book{owner: owner, complain: complain, seen: map[uint64]uuid.UUID{}, acked: map[uint64]bool{},
		gapped: map[uint64]bool{}}
}

// page is one connection's part of the book. One goroutine writes it.
type page struct {
	*book
	last    uint64 // the highest sequence that came or was reported here
	drained bool
}

// envelope notes an envelope. What is skipped before it must be known: nothing is lost silently,
// not even for a moment.
func (p *page) envelope(e *obscurapb.Envelope) {
	to, from, id, err := unwrap(e.GetMessage())
	seq := e.GetSequence()
	switch {
	case err != nil:
		p.complain("an envelope came %v", err)
		return
	case to != p.owner.id:
		p.complain("an envelope reached another device than it was sent to")
		return
	case string(e.GetSenderDeviceId()) != string(from[:]):
		p.complain("an envelope names another sender than the one who sent it")
	case seq <= p.last:
		p.complain("sequence %d came after %d on one connection", seq, p.last)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.skipTo(seq)
	p.last = max(p.last, seq)
	before, again := p.seen[seq]
	if again {
		p.repeated++
		if before != id {
			p.complain("sequence %d came with two different messages", seq)
		}
	}
	p.seen[seq] = id
}

// skipTo checks what lies between the last sequence and the next; the lock is held.
func (p *page) skipTo(next uint64) {
	for seq := p.last + 1; seq < next; seq++ {
		if _, ok := p.seen[seq]; !ok && !p.gapped[seq] {
			p.complain("sequence %d was skipped without a word: %d followed %d", seq, next, p.last)
			return
		}
		if p.drained && !p.gapped[seq] {
			p.complain("sequence %d, above the backlog, was left out on a live connection: %d followed %d", seq, next,
				p.last)
			return
		}
	}
}

func (p *page) gap(g *obscurapb.Gap) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.late(g) {
		return
	}
	if g.GetFrom() <= p.last || g.GetTo() < g.GetFrom() || g.GetReason() == obscurapb.Gap_REASON_UNSPECIFIED {
		p.complain("the gap %v came after %d", g, p.last)
		return
	}
	p.skipTo(g.GetFrom())
	for seq := g.GetFrom(); seq <= g.GetTo(); seq++ {
		p.gapped[seq] = true
	}
	p.last = g.GetTo()
}

// late notes a gap of what has been seen and was dropped since; the lock is held.
func (p *page) late(g *obscurapb.Gap) bool {
	if g.GetTo() > p.last {
		return false
	}
	for seq := g.GetFrom(); seq <= g.GetTo(); seq++ {
		if _, ok := p.seen[seq]; !ok {
			return false
		}
	}
	for seq := g.GetFrom(); seq <= g.GetTo(); seq++ {
		p.gapped[seq] = true
	}
	return true
}

func (p *page) drain(d *obscurapb.Drained) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.drained {
		p.complain("the backlog was drained twice")
	}
	p.skipTo(d.GetSequence() + 1)
	p.last, p.drained = max(p.last, d.GetSequence()), true
}

// acknowledged notes what is about to be acknowledged.
func (b *book) acknowledged(sequences []uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, seq := range sequences {
		b.acked[seq] = true
	}
}

// missing returns the first sequence up to a last one that was neither seen nor reported, 0 if
// there is none.
func (b *book) missing(last uint64) uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	for seq := uint64(1); seq <= last; seq++ {
		if _, ok := b.seen[seq]; !ok && !b.gapped[seq] {
			return seq
		}
	}
	return 0
}

func (b *book) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return fmt.Sprintf("%d seen, %d acknowledged, %d in gaps", len(b.seen), len(b.acked), len(b.gapped))
}
