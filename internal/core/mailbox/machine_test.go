package mailbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/kit/testdb"
	"github.com/obscura-relay/obscura/internal/storage"
)

// machine does to real mailboxes, on two nodes, and to their ledgers the same.
type machine struct {
	url     string
	nodes   [2]*node
	boxes   []*ledger
	readers []*reader // of the box with the same index; nil while nobody is connected
	senders []sender
	sent    []sentBatch
	n       int // letters are numbered
}

// reader is a socket's view of a mailbox.
type reader struct {
	cursor   int64
	begun    bool
	seen     []int64
	acked    map[int64]bool
	reported []core.Gap
}

type sentBatch struct {
	from    sender
	batch   Batch
	invalid []int16
}

// Accepted = acknowledged + pending + recorded in gaps, for every device and after every step,
// through sends, floods, repeated batches, acknowledgements of anything, reconnects, expiry,
// sweeps, takeovers, sockets that end with nothing acknowledged or with something passed over, two
// nodes and restarts.
func TestEveryAcceptedEnvelopeIsAcknowledgedPendingOrInAGap(t *testing.T) {
	t.Parallel()
	url := testdb.NewURL(t)
	rapid.Check(t, func(rt *rapid.T) {
		m := &machine{url: url, nodes: [2]*node{newNode(rt, url), newNode(rt, url)}, readers: make([]*reader, 3)}
		defer func() { m.nodes[0].stop(); m.nodes[1].stop() }()
		for range 3 {
			m.boxes = append(m.boxes, &ledger{device: m.nodes[0].newBox(rt)})
			m.senders = append(m.senders, newSender())
		}
		rt.Repeat(map[string]func(*rapid.T){
			"":         m.check,
			"send":     m.send,
			"send 2":   m.send,
			"flood":    m.flood,
			"repeat":   m.repeat,
			"at once":  m.atOnce,
			"connect":  m.connect,
			"break":    m.disconnect,
			"read":     m.read,
			"read 2":   m.read,
			"ack":      m.acknowledge,
			"ack 2":    m.acknowledge,
			"stray":    m.stray,
			"poison":   m.poison,
			"expire":   m.expire,
			"sweep":    m.sweep,
			"takeover": m.takeOver,
			"restart":  m.restart,
		})
	})
}

// check holds every mailbox against its ledger.
func (m *machine) check(t *rapid.T) {
	for i, l := range m.boxes {
		var row struct {
			next, floor, acked, loud int64
			pending                  int
		}
		var sequences []int64
		var texts []string
		var gaps []core.Gap
		m.nodes[0].tx(t, func(tx *storage.Tx) error { // nothing runs beside a check
			ctx := context.Background()
			err := tx.QueryRow(ctx,
				`SELECT next_seq, floor_seq, acked_seq, pending,
					greatest(0, CASE WHEN quiet_to = next_seq - 1 THEN quiet_from - 1 ELSE next_seq - 1 END)
				FROM mailboxes WHERE device_id = $1`, l.device).
				Scan(&row.next, &row.floor, &row.acked, &row.pending, &row.loud)
			if err != nil {
				return err
			}
			rows, err := tx.Query(ctx, "SELECT seq, body FROM messages WHERE device_id = $1 ORDER BY seq", l.device)
			if err != nil {
				return err
			}
			var seq int64
			var body []byte
			_, err = pgx.ForEachRow(rows, []any{&seq, &body}, func() error {
				sequences, texts = append(sequences, seq), append(texts, string(body))
				return nil
			})
			return err
		})
		gaps = m.nodes[0].gaps(t, l.device)
		if row.next != int64(len(l.letters))+1 {
			t.Fatalf("box %d: %d were accepted, the next sequence is %d", i, len(l.letters), row.next)
		}
		if want := l.loud(); row.loud != want {
			t.Fatalf("box %d: quiet above %d, want %d", i, row.loud, want)
		}
		if want := l.pending(0); !slices.Equal(sequences, want) {
			t.Fatalf("box %d: pending %v, want %v", i, sequences, want)
		}
		for j, seq := range sequences {
			if l.letters[seq-1].text != texts[j] {
				t.Fatalf("box %d: sequence %d is %q, want %q", i, seq, texts[j], l.letters[seq-1].text)
			}
		}
		if row.pending != len(sequences) || row.pending > core.MailboxCap {
			t.Fatalf("box %d: the count says %d, there are %d", i, row.pending, len(sequences))
		}
		if len(sequences) > 0 && sequences[0] <= row.floor || row.acked != l.acked {
			t.Fatalf("box %d: floor %d above %v, or acked %d, want %d", i, row.floor, sequences[0], row.acked, l.acked)
		}
		if want := l.gaps(); !slices.Equal(gaps, want) {
			t.Fatalf("box %d: gaps %v, want %v", i, gaps, want)
		}
	}
}

func (m *machine) node(t *rapid.T) *node    { return m.nodes[rapid.IntRange(0, 1).Draw(t, "node")] }
func (m *machine) index(t *rapid.T) int     { return rapid.IntRange(0, len(m.boxes)-1).Draw(t, "box") }
func (m *machine) sender(t *rapid.T) sender { return rapid.SampledFrom(m.senders).Draw(t, "sender") }
func (m *machine) submission(i int) Submission {
	m.n++
	if m.n%3 > 0 {
		return Submission{Device: m.boxes[i].device, Message: fmt.Appendf(nil, "%s%d", whisper, m.n), Quiet: true}
	}
	return Submission{Device: m.boxes[i].device, Message: fmt.Appendf(nil, "letter %d", m.n)}
}

// book writes down what a stored batch did.
func (m *machine) book(from sender, b Batch, invalid []int16) {
	for pos, sub := range b.Submissions {
		if !slices.Contains(invalid, int16(pos)) {
			m.ledgerOf(sub.Device).accept(from.User, string(sub.Message))
		}
	}
	for _, l := range m.boxes {
		l.makeRoom()
	}
	m.sent = append(m.sent, sentBatch{from, b, invalid})
}

func (m *machine) ledgerOf(device core.DeviceID) *ledger {
	return m.boxes[slices.IndexFunc(m.boxes, func(l *ledger) bool { return l.device == device })]
}

func (m *machine) send(t *rapid.T) {
	from, n := m.sender(t), m.node(t)
	var submissions []Submission
	var invalid []int16
	for i, to := range rapid.SliceOfN(rapid.IntRange(0, len(m.boxes)), 0, 20).Draw(t, "to") {
		if to == len(m.boxes) { // nobody
			submissions, invalid = append(submissions, Submission{Device: newSender().Device, Message: []byte("lost")}),
				append(invalid, int16(i))
			continue
		}
		submissions = append(submissions, m.submission(to))
	}
	b := batchOf(submissions...)
	got, err := n.Send(t.Context(), from, b)
	if err != nil || !slices.Equal(got, invalid) {
		t.Fatalf("send: %v, invalid %v, want %v", err, got, invalid)
	}
	m.book(from, b, invalid)
}

// flood fills a mailbox until around its cap, by one sender or two.
func (m *machine) flood(t *rapid.T) {
	i, n := m.index(t), m.node(t)
	by := []sender{m.sender(t), m.sender(t)}
	short := core.MailboxCap + rapid.IntRange(-10, 30).Draw(t, "beyond") - len(m.boxes[i].pending(0))
	for k := 0; short > 0; k++ {
		b := Batch{}
		for range min(short, core.MaxSubmissions) {
			b.Submissions = append(b.Submissions, m.submission(i))
		}
		short -= len(b.Submissions)
		b = batchOf(b.Submissions...)
		if _, err := n.Send(t.Context(), by[k%2], b); err != nil {
			t.Fatalf("flood: %v", err)
		}
		m.book(by[k%2], b, nil)
	}
}

// repeat sends an old batch again: it hears the first answer. With another body it is refused.
func (m *machine) repeat(t *rapid.T) {
	if len(m.sent) == 0 {
		return
	}
	old := rapid.SampledFrom(m.sent).Draw(t, "batch")
	got, err := m.node(t).Send(t.Context(), old.from, old.batch)
	if err != nil || !slices.Equal(got, old.invalid) {
		t.Fatalf("repeated: %v, invalid %v, want %v", err, got, old.invalid)
	}
	other := batchOf(m.submission(0))
	other.Key = old.batch.Key
	if _, err := m.node(t).Send(t.Context(), old.from, other); !errors.Is(err, errKeyReused) {
		t.Fatalf("another body: %v", err)
	}
}

// atOnce sends from all senders on both nodes at once, each batch twice. The order is the relay's
// to choose; the ledger learns it.
func (m *machine) atOnce(t *rapid.T) {
	i := m.index(t)
	l := m.boxes[i]
	if len(l.pending(0))+2*len(m.senders) > core.MailboxCap {
		return
	}
	from := map[string]sender{}
	var wg sync.WaitGroup
	for _, s := range m.senders {
		b := batchOf(m.submission(i), m.submission(i))
		m.sent = append(m.sent, sentBatch{s, b, nil})
		for _, sub := range b.Submissions {
			from[string(sub.Message)] = s
		}
		for _, n := range m.nodes {
			wg.Go(func() {
				if _, err := n.Send(context.Background(), s, b); err != nil {
					t.Errorf("at once: %v", err)
				}
			})
		}
	}
	wg.Wait()
	rows, err := m.nodes[0].main.Pool().Query(t.Context(),
		"SELECT body FROM messages WHERE device_id = $1 AND seq > $2 ORDER BY seq", l.device, len(l.letters))
	bodies, err2 := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	if err = errors.Join(err, err2); err != nil || len(bodies) != len(from) {
		t.Fatalf("at once: %v, %d of %d letters", err, len(bodies), len(from))
	}
	for _, body := range bodies {
		l.accept(from[string(body)].User, string(body))
	}
}

func (m *machine) restart(t *rapid.T) {
	k := rapid.IntRange(0, 1).Draw(t, "node")
	m.nodes[k].stop()
	m.nodes[k] = newNode(t, m.url)
}
