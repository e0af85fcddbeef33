package mailbox_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/obscura-relay/obscura/gen/client"
	"github.com/obscura-relay/obscura/gen/obscurapb"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/prekeytest"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
	"github.com/obscura-relay/obscura/internal/kit/wait"
)

// Two nodes, two senders and two recipients that do anything in any order. The ledger is what
// clients see: every message that a sender was told is stored has been delivered or lies in a
// reported gap, under one sequence, in the order of its sender. OBSCURA_TEST_SEED repeats a run,
// OBSCURA_TEST_STEPS makes it longer.
func TestWhatClientsSeeAddsUp(t *testing.T) {
	t.Parallel()
	seed, steps := e2e.FromEnvironment("OBSCURA_TEST_SEED", time.Now().UnixNano()),
		e2e.FromEnvironment("OBSCURA_TEST_STEPS", 40)
	t.Logf("OBSCURA_TEST_SEED=%d", seed)
	m := &play{T: t, Rand: rand.New(rand.NewPCG(uint64(seed), 1))}
	m.nodes[0] = relaytest.Start(t)
	m.nodes[1] = relaytest.StartOn(t, m.nodes[0].DatabaseURL)
	m.database = e2e.Database(t, m.nodes[0])
	for i := range m.senders {
		m.senders[i] = m.nodes[i].Register(t).NewDevice(t)
	}
	for i := range m.inboxes {
		m.inboxes[i] = &inbox{device: m.nodes[i].Register(t).NewDevice(t), seen: map[uint64]string{},
			settled: map[uint64]bool{}, lost: map[uint64]bool{}}
	}
	actions := []func(){m.send, m.send, m.send, m.sendAgain, m.flood, m.connect, m.connect, m.acknowledge,
		m.acknowledge,
		m.disconnect, m.expire, m.takeOver, m.restart}
	for range steps {
		actions[m.IntN(len(actions))]()
	}
	for _, in := range m.inboxes {
		m.settle(in)
	}
}

// play is a run of the model.
type play struct {
	*testing.T
	*rand.Rand
	nodes    [2]*relaytest.Relay
	senders  [2]*relaytest.Device
	inboxes  [2]*inbox
	database *pgxpool.Pool
	n        int
	again    func() // repeats the last request
}

// inbox is a recipient and what it has seen.
type inbox struct {
	device *relaytest.Device
	sent   []string // what senders were told is stored, in their order
	socket *relaytest.Socket
	// cursor is how far this socket has come.
	cursor uint64
	open   []*obscurapb.Envelope
	// seen is every message by its sequence, settled what the relay had when it was acknowledged,
	// and lost what lies in a reported gap.
	seen          map[uint64]string
	settled, lost map[uint64]bool
}

func (m *play) inbox() *inbox { return m.inboxes[m.IntN(len(m.inboxes))] }

// write sends n messages to an inbox and reads them if it is connected.
func (m *play) write(in *inbox, n int) {
	from, node, key := m.senders[m.IntN(2)], m.nodes[m.IntN(2)], uuid.New()
	var submissions []*obscurapb.Submission
	for range n {
		m.n++
		text := fmt.Sprintf("%05d from %v", m.n, from.ID)
		in.sent = append(in.sent, text)
		submissions = append(submissions, relaytest.To(in.device.ID, text))
	}
	submissions = append(submissions, relaytest.To(uuid.New(), "nobody"))
	m.again = func() {
		if failed := from.On(m.nodes[m.IntN(2)]).Send(m.T, &key, submissions...); len(failed) != 1 {
			m.Fatalf("failed: %v", failed)
		}
	}
	if failed := from.On(node).Send(m.T, &key, submissions...); len(failed) != 1 {
		m.Fatalf("failed: %v", failed)
	}
	m.read(in)
}

func (m *play) send() { m.write(m.inbox(), 1+m.IntN(5)) }

func (m *play) sendAgain() {
	if m.again != nil {
		m.again()
	}
}

// flood fills an inbox beyond its cap.
func (m *play) flood() {
	in := m.inbox()
	if len(in.sent) > 3000 {
		return
	}
	for range 10 + m.IntN(2) {
		m.write(in, 99)
	}
}

// read reads until a connected inbox has heard of everything that was accepted, or the relay waits
// for acknowledgements.
func (m *play) read(in *inbox) {
	for in.socket != nil && in.cursor < uint64(len(in.sent)) && len(in.open) < core.MailboxCap {
		m.frame(in)
	}
}

// frame reads one frame and holds it against all that was seen before.
func (m *play) frame(in *inbox) (drained bool) {
	frame := in.socket.Next()
	if gap := frame.GetGap(); gap != nil {
		for seq := gap.GetFrom(); seq <= gap.GetTo(); seq++ {
			if in.settled[seq] {
				m.Fatalf("%d was acknowledged and is in the gap %v", seq, gap)
			}
			in.lost[seq] = true
		}
		in.cursor = max(in.cursor, gap.GetTo())
	}
	for _, e := range frame.GetEnvelopeBatch().GetEnvelopes() {
		seq, text := e.GetSequence(), string(e.GetMessage())
		if known, again := in.seen[seq]; seq <= in.cursor || again && known != text || in.settled[seq] || in.lost[seq] {
			m.Fatalf("%d %q behind %d; seen as %q, acknowledged: %v, in a gap: %v", seq, text, in.cursor, known,
				in.settled[seq], in.lost[seq])
		}
		in.seen[seq], in.cursor = text, seq
		in.open = append(in.open, e)
	}
	return frame.GetDrained() != nil
}

// connect opens a socket on any node, in the place of the one there is, and reads the backlog.
func (m *play) connect() { m.open(m.inbox()) }

func (m *play) open(in *inbox) {
	old := in.socket
	in.socket, in.cursor, in.open = in.device.On(m.nodes[m.IntN(2)]).Connect(m.T), 0, nil
	if old != nil {
		if code := old.CloseCode(); code != 4409 {
			m.Fatalf("the older socket closed with %d", code)
		}
	}
	for !m.frame(in) {
	}
	in.cursor = max(in.cursor, uint64(len(in.sent))) // all of it was in the backlog
}

// acknowledge acknowledges some of what this socket has got.
func (m *play) acknowledge() {
	in := m.inbox()
	var some []*obscurapb.Envelope
	in.open = slices.DeleteFunc(in.open, func(e *obscurapb.Envelope) bool {
		if m.IntN(4) == 0 {
			return false
		}
		some = append(some, e)
		return true
	})
	m.ack(in, some)
}

func (m *play) ack(in *inbox, envelopes []*obscurapb.Envelope) {
	if in.socket == nil || len(envelopes) == 0 {
		return
	}
	pending := m.pending(in)
	for _, e := range envelopes {
		if slices.Contains(pending, e.GetSequence()) { // else it was dropped after it had been sent
			in.settled[e.GetSequence()] = true
		}
	}
	in.socket.Ack(envelopes...)
	wait.Eventually(m.T, "acknowledged envelopes go", func() bool {
		return !slices.ContainsFunc(m.pending(in), func(seq uint64) bool { return in.settled[seq] })
	})
	m.read(in)
}

func (m *play) pending(in *inbox) []uint64 {
	// told again below
	rows, _ := m.database.Query(m.Context(), "SELECT seq FROM messages WHERE device_id = $1", in.device.ID)
	sequences, err := pgx.CollectRows(rows, pgx.RowTo[uint64])
	if err != nil || len(sequences) > 1000 {
		m.Fatalf("%d pending, %v", len(sequences), err)
	}
	return sequences
}

func (m *play) disconnect() {
	if in := m.inbox(); in.socket != nil {
		_ = in.socket.CloseNow() // abrupt
		in.socket, in.open = nil, nil
	}
}

// expire makes the older half of an inbox 30 days old.
func (m *play) expire() {
	in := m.inbox()
	e2e.Execute(m.T, m.database, `UPDATE messages SET accepted_at = accepted_at - interval '30 days' WHERE device_id = $1
		AND seq <= (SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY seq) FROM messages WHERE device_id = $1)`, in.device.ID)
}

// takeOver gives a device another identity: its socket closes and its mail goes.
func (m *play) takeOver() {
	in := m.inbox()
	identity, registration := prekeytest.NewIdentity(), int32(7)
	signed := identity.SignedPreKey(1)
	got, err := in.device.On(m.nodes[m.IntN(2)]).UploadKeysWithResponse(m.Context(),
		client.KeyUpload{IdentityKey: &identity.Public, RegistrationID: &registration, SignedPreKey: &signed})
	if err != nil || got.StatusCode() != 200 {
		m.Fatalf("takeover: %v %s", err, got.Body)
	}
	if in.socket != nil {
		if code := in.socket.CloseCode(); code != 4401 {
			m.Fatalf("the socket closed with %d", code)
		}
	}
	in.socket, in.open = nil, nil
}

// restart stops a node and starts another one. Sockets there close; acknowledgements are not lost.
func (m *play) restart() {
	k := m.IntN(2)
	m.nodes[k].Stop()
	m.nodes[k] = relaytest.StartOn(m.T, m.nodes[0].DatabaseURL)
	for _, in := range m.inboxes {
		if in.socket != nil {
			m.reopen(in)
		}
	}
}

// reopen connects anew wherever the socket was.
func (m *play) reopen(in *inbox) {
	_ = in.socket.CloseNow()
	in.socket = nil
	m.open(in)
}

// settle reads and acknowledges until nothing is left, and adds up.
func (m *play) settle(in *inbox) {
	for {
		m.open(in)
		if len(in.open) == 0 {
			break
		}
		m.ack(in, in.open)
	}
	delivered := map[string]bool{}
	last := map[string]string{}
	for seq := uint64(1); seq <= uint64(len(in.sent)); seq++ {
		text, seen := in.seen[seq]
		if !seen && !in.lost[seq] {
			m.Errorf("%d of %d was lost silently", seq, len(in.sent))
		}
		if !in.settled[seq] && !in.lost[seq] || in.settled[seq] && in.lost[seq] {
			m.Errorf("%d: acknowledged %v, in a gap %v", seq, in.settled[seq], in.lost[seq])
		}
		if !seen {
			continue
		}
		if delivered[text] || !slices.Contains(in.sent, text) {
			m.Errorf("%d: %q was delivered under two sequences, or never sent", seq, text)
		}
		delivered[text] = true
		if from := text[5:]; last[from] > text {
			m.Errorf("%d: %q after %q", seq, text, last[from])
		} else {
			last[from] = text
		}
	}
	if n := len(in.seen); n > len(in.sent) {
		m.Errorf("%d sequences for %d messages", n, len(in.sent))
	}
}
