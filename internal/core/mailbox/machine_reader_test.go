package mailbox

import (
	"context"
	"maps"
	"slices"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/storage"
)

// connect opens a socket in the place of the one before.
func (m *machine) connect(t *rapid.T) { m.open(t, m.index(t)) }

func (m *machine) open(t *rapid.T, i int) *reader {
	l := m.boxes[i]
	m.end(t, i)
	opened, err := m.node(t).Open(t.Context(), core.Principal{Device: l.device})
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	if opened.Last != int64(len(l.letters)) {
		t.Fatalf("box %d: opened at %+v, want last %d", i, opened, len(l.letters))
	}
	m.readers[i] = &reader{cursor: opened.Floor, acked: map[int64]bool{}}
	return m.readers[i]
}

func (m *machine) disconnect(t *rapid.T) { m.end(t, m.index(t)) }

// end ends a socket: what it passed over is counted.
func (m *machine) end(t *rapid.T, i int) {
	r, l := m.readers[i], m.boxes[i]
	m.readers[i] = nil
	if r == nil || len(r.acked) == 0 {
		return
	}
	last := slices.Max(slices.Collect(maps.Keys(r.acked)))
	skipped := slices.DeleteFunc(slices.Clone(r.seen), func(seq int64) bool { return seq > last || r.acked[seq] })
	n := m.node(t)
	n.PassedOver(l.device, skipped)
	n.barrier(t)
	l.passOver(skipped)
}

// read reads a page as a socket does, and reports gaps.
func (m *machine) read(t *rapid.T) {
	i := m.index(t)
	if r := m.readers[i]; r != nil {
		m.readPage(t, i, r)
	}
}

func (m *machine) readPage(t *rapid.T, i int, r *reader) (more bool) {
	l, n := m.boxes[i], m.node(t)
	page, err := n.Read(t.Context(), l.device, r.cursor)
	if err != nil {
		t.Fatalf("read: %v", err)
	}
	want := l.read(r.cursor)
	var got []int64
	for _, e := range page.Envelopes {
		got = append(got, e.Sequence)
		if x := l.letters[e.Sequence-1]; x.text != string(e.Message) || x.from != e.Sender || x.old {
			t.Fatalf("box %d: sequence %d is %q, want %+v", i, e.Sequence, e.Message, x)
		}
	}
	if !slices.Equal(got, want) || page.More != (len(want) == pageRows) {
		t.Fatalf("box %d: read %v (more: %v), want %v", i, got, page.More, want)
	}
	end := int64(len(l.letters))
	if page.More {
		end = got[len(got)-1]
	}
	from := r.cursor
	if !r.begun {
		from = 0
	}
	for _, g := range n.gaps(t, l.device) {
		if g.To > from && g.From <= end {
			r.reported = append(r.reported, g)
		}
	}
	r.seen = append(r.seen, got...)
	r.cursor, r.begun = end, true
	return page.More
}

// acknowledge acknowledges some of what a socket has seen, again perhaps, and by the way ids that
// are another device's or nobody's.
func (m *machine) acknowledge(t *rapid.T) {
	i := m.index(t)
	r, l := m.readers[i], m.boxes[i]
	if r == nil || len(r.seen) == 0 {
		return
	}
	from := rapid.IntRange(0, len(r.seen)-1).Draw(t, "from")
	to := rapid.IntRange(from+1, len(r.seen)).Draw(t, "to")
	step := rapid.IntRange(1, 3).Draw(t, "step")
	ids := [][]byte{nil, make([]byte, 16), []byte("short")}
	for k := from; k < to; k += step {
		own, foreign := IDsOf(l.device).Name(r.seen[k]), IDsOf(m.boxes[(i+1)%len(m.boxes)].device).Name(r.seen[k])
		ids = append(ids, own[:], foreign[:])
		r.acked[r.seen[k]] = true
	}
	var sequences []int64
	for _, id := range ids {
		if seq, ok := IDsOf(l.device).Sequence(id); ok {
			sequences = append(sequences, seq)
		}
	}
	last := slices.Max(sequences)
	var reported []core.Gap
	r.reported = slices.DeleteFunc(r.reported, func(g core.Gap) bool {
		if g.To < last {
			reported = append(reported, g)
			return true
		}
		return false
	})
	m.node(t).acknowledge(t, l.device, sequences, reported...)
	l.acknowledge(sequences, reported)
}

// stray acknowledges sequences that are gone or do not exist yet.
func (m *machine) stray(t *rapid.T) {
	l := m.boxes[m.index(t)]
	sequences := []int64{0, -1, 1 << 59, int64(len(l.letters)) + 1}
	for i := range l.letters {
		if l.letters[i].fate != pending {
			sequences = append(sequences, int64(i+1))
		}
	}
	m.node(t).acknowledge(t, l.device, sequences)
	m.nodes[1].acknowledge(t, uuid.New(), []int64{1, 2, 3})
}

// poison acknowledges the last letter on one socket after the other; some break before.
func (m *machine) poison(t *rapid.T) {
	i := m.index(t)
	l := m.boxes[i]
	for range rapid.IntRange(1, 14).Draw(t, "times") {
		r := m.open(t, i)
		for m.readPage(t, i, r) {
		}
		if waiting := l.pending(0); len(waiting) > 1 && len(waiting) < 100 && rapid.IntRange(0, 6).Draw(t, "line") > 0 {
			last := waiting[len(waiting)-1:]
			r.acked[last[0]] = true
			m.nodes[0].acknowledge(t, l.device, last)
			l.acknowledge(last, nil)
		}
	}
}

// expire makes some of a mailbox, mostly its oldest, 30 days old.
func (m *machine) expire(t *rapid.T) {
	l := m.boxes[m.index(t)]
	waiting := l.pending(0)
	if len(waiting) == 0 {
		return
	}
	old := waiting[:rapid.IntRange(1, len(waiting)).Draw(t, "n")]
	if rapid.IntRange(0, 3).Draw(t, "where") == 0 {
		old = old[len(old)-1:]
	}
	m.nodes[0].exec(t, "UPDATE messages SET accepted_at = accepted_at - interval '30 days' WHERE device_id = $1 AND seq = ANY($2)", l.device, old)
	for _, seq := range old {
		l.letters[seq-1].old = true
	}
}

// sweep looks at the oldest of each mailbox.
func (m *machine) sweep(t *rapid.T) {
	if err := m.node(t).Sweep(t.Context()); err != nil {
		t.Fatalf("sweep: %v", err)
	}
	for _, l := range m.boxes {
		if waiting := l.pending(0); len(waiting) > 0 && l.letters[waiting[0]-1].old {
			l.expire()
		}
	}
}

func (m *machine) takeOver(t *rapid.T) {
	i := m.index(t)
	l := m.boxes[i]
	m.node(t).tx(t, func(tx *storage.Tx) error {
		_, _, err := TakeOver(context.Background(), tx, l.device, 0)
		return err
	})
	l.drop(core.GapTakeover, func(*letter) bool { return true })
	m.readers[i] = nil
}
