package mailbox

import (
	"bytes"
	"context"
	"crypto/sha256"
	"flag"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/kit/testdb"
	"github.com/obscura-relay/obscura/internal/kit/wait"
	"github.com/obscura-relay/obscura/internal/storage"
)

// TestMain makes rapid quick by default; -rapid.checks and RAPID_CHECKS make it thorough.
func TestMain(m *testing.M) {
	if checks := flag.Lookup("rapid.checks"); checks.Value.String() == "100" {
		_ = checks.Value.Set("12")
	}
	testdb.Main(m)
}

// pure checks a property that needs no database, and so can be checked often.
func pure(t *testing.T, property func(*rapid.T)) {
	for range 20 {
		rapid.Check(t, property)
	}
}

// patience bounds every wait.
const patience = 30 * time.Second

// node is a running Service with pools of its own, as a relay has it.
type node struct {
	*Service
	main, async *storage.DB
	counts      counts
	stop        func() // ends the work in the relay's order; may be called twice
	close       func() // ends what an idle node does

	// here are the devices with a socket on this node: what is committed for them is offered.
	here sync.Map
	mu   sync.Mutex
	// offered is guarded by mu.
	offered map[core.DeviceID][]core.Envelope
	// announced is guarded by mu.
	announced []core.Notice
}

type counts struct {
	accepted, acknowledged atomic.Int64
	dropped                [5]atomic.Int64
}

func (c *counts) Accepted(n int)                       { c.accepted.Add(int64(n)) }
func (c *counts) Acknowledged(n int)                   { c.acknowledged.Add(int64(n)) }
func (c *counts) Dropped(reason core.GapReason, n int) { c.dropped[reason].Add(int64(n)) }
func digestOf(submissions []Submission) [sha256.Size]byte {
	var all bytes.Buffer
	for i := range submissions {
		all.Write(submissions[i].Device[:])
		all.Write(submissions[i].Message)
	}
	return sha256.Sum256(all.Bytes())
}

// failer is what testing.TB and rapid.T have in common.
type failer interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

func openDB(t failer, url string, conns int32, async bool) *storage.DB {
	t.Helper()
	d, err := storage.Open(context.Background(), url, storage.Options{MaxConns: conns, AsyncCommit: async})
	if err == nil {
		err = d.CheckSchema(context.Background())
	}
	if err != nil {
		t.Fatalf("open the database: %v", err)
	}
	return d
}

// newNode makes a Service on a database and runs it until stop.
func newNode(t failer, url string) *node {
	t.Helper()
	n := idleNode(t, url)
	n.run()
	return n
}

// idleNode makes a Service that does not work yet: it marks who sends and opens sockets, and the
// sends wait.
func idleNode(t failer, url string) *node {
	t.Helper()
	n := &node{main: openDB(t, url, 6, false), async: openDB(t, url, 3, true),
		offered: map[core.DeviceID][]core.Envelope{}}
	n.Service = New(Config{DB: n.main, Async: n.async, Sockets: n, Counters: &n.counts})
	marks, stopMarks := context.WithCancel(context.Background())
	var marking sync.WaitGroup
	for _, b := range n.buckets {
		marking.Go(func() { _ = b.marks.Run(marks) })
		marking.Go(func() { _ = b.sockets.Run(marks) })
	}
	n.close = func() { stopMarks(); marking.Wait(); n.main.Close(); n.async.Close() }
	n.stop = sync.OnceFunc(n.close)
	return n
}

func (n *node) run() {
	sends, stopSends := context.WithCancel(context.Background())
	acks, stopAcks := context.WithCancel(context.Background())
	var sending, acking sync.WaitGroup
	for _, b := range n.buckets {
		sending.Go(func() { _ = b.sends.Run(sends) })
	}
	acking.Go(func() { _ = n.RunAcknowledgements(acks) })
	n.stop = sync.OnceFunc(func() {
		stopSends()
		sending.Wait()
		stopAcks()
		acking.Wait()
		n.close()
	})
}

// start is newNode for a test: it stops with it.
func start(t testing.TB, url string) *node {
	t.Helper()
	n := newNode(t, url)
	t.Cleanup(n.stop)
	return n
}

func (n *node) Offer(device core.DeviceID, envelopes []core.Envelope) bool {
	if _, here := n.here.Load(device); !here {
		return false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.offered[device] = append(n.offered[device], envelopes...)
	return true
}

func (n *node) Announce(notice core.Notice) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.announced = append(n.announced, notice)
}

// barrier waits until the acknowledgements handed in so far have been worked on.
func (n *node) barrier(t failer) {
	t.Helper()
	if !wait.Within(patience, func() bool { return n.WaitingAcknowledgements() == 0 }) {
		t.Fatalf("acknowledgements were not worked on")
	}
}

// sender is a device that sends.
type sender = core.Principal

func newSender() sender {
	return sender{User: uuid.New(), Session: uuid.New(), Device: uuid.New(), DeviceNumber: 7}
}

// beside makes ids until one lies in the bucket of another.
func (n *node) beside(device core.DeviceID) core.DeviceID {
	for {
		if id := uuid.New(); n.of(id) == n.of(device) {
			return id
		}
	}
}

// senderBeside is a sender in the bucket of a device: what it sends there is stored in one
// transaction.
func (n *node) senderBeside(device core.DeviceID) sender {
	from := newSender()
	from.Device = n.beside(device)
	return from
}

// newBoxBeside makes a mailbox in the bucket of a device.
func (n *node) newBoxBeside(t failer, device core.DeviceID) core.DeviceID {
	t.Helper()
	id := n.beside(device)
	n.tx(t, func(tx *storage.Tx) error { return Create(context.Background(), tx, id) })
	return id
}

// newBox makes a mailbox.
func (n *node) newBox(t failer) core.DeviceID {
	t.Helper()
	device := uuid.New()
	n.tx(t, func(tx *storage.Tx) error { return Create(context.Background(), tx, device) })
	return device
}

func (n *node) tx(t failer, fn func(tx *storage.Tx) error) {
	t.Helper()
	if err := n.main.InTx(context.Background(), fn); err != nil {
		t.Fatalf("transaction: %v", err)
	}
}

// to makes submissions of texts to one device.
func to(device core.DeviceID, texts ...string) []Submission {
	out := make([]Submission, len(texts))
	for i, text := range texts {
		out[i] = Submission{Device: device, Message: []byte(text)}
	}
	return out
}

// batchOf makes a batch with a fresh key.
func batchOf(submissions ...Submission) Batch {
	return Batch{Key: uuid.New(), Digest: digestOf(submissions), Submissions: submissions}
}

// send sends and expects that all is stored.
func (n *node) send(t failer, from sender, submissions ...Submission) {
	t.Helper()
	for len(submissions) > 0 {
		k := min(len(submissions), core.MaxSubmissions)
		if invalid, err := n.Send(context.Background(), from, batchOf(submissions[:k]...)); err != nil ||
			len(invalid) != 0 {
			t.Fatalf("send: %v, invalid %v", err, invalid)
		}
		submissions = submissions[k:]
	}
}

// many makes n submissions with texts that begin alike.
func many(device core.DeviceID, n int, text string) []Submission {
	out := make([]Submission, n)
	for i := range out {
		out[i] = Submission{Device: device, Message: []byte(text)}
	}
	return out
}

// texts reads what is pending above a sequence, all pages.
func (n *node) texts(t failer, device core.DeviceID, after int64) (texts []string, sequences []int64) {
	t.Helper()
	for {
		page, err := n.Read(context.Background(), device, after)
		if err != nil {
			t.Fatalf("read: %v", err)
		}
		for _, e := range page.Envelopes {
			texts, sequences = append(texts, string(e.Message)), append(sequences, e.Sequence)
			after = e.Sequence
		}
		if !page.More {
			return texts, sequences
		}
	}
}

func (n *node) gaps(t failer, device core.DeviceID) []core.Gap {
	t.Helper()
	gaps, after := []core.Gap{}, int64(0)
	for {
		some, more, err := n.Gaps(context.Background(), device, after, math.MaxInt64)
		if err != nil {
			t.Fatalf("gaps: %v", err)
		}
		gaps = append(gaps, some...)
		if !more {
			return gaps
		}
		after = some[len(some)-1].To
	}
}

// acknowledge acknowledges sequences and waits until it has been worked on.
func (n *node) acknowledge(t failer, device core.DeviceID, sequences []int64, reported ...core.Gap) {
	t.Helper()
	if err := n.Acknowledge(device, sequences, reported); err != nil {
		t.Fatalf("acknowledge: %v", err)
	}
	n.barrier(t)
}

// exec runs a statement that no use case has: it moves time.
func (n *node) exec(t failer, sql string, args ...any) {
	t.Helper()
	if err := pgx.BeginFunc(context.Background(), n.main.Pool(), func(tx pgx.Tx) error {
		return execIn(tx, sql, args...)
	}); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// execIn runs a statement of a test: not of the relay, as package testdb tells them apart.
func execIn(tx pgx.Tx, sql string, args ...any) error {
	_, err := tx.Exec(context.Background(), "SET LOCAL application_name = 'test'")
	if err == nil {
		_, err = tx.Exec(context.Background(), sql, args...)
	}
	return err
}

// one reads one value.
func one[T any](t failer, n *node, sql string, args ...any) (value T) {
	t.Helper()
	if err := n.main.Pool().QueryRow(context.Background(), sql, args...).Scan(&value); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return value
}
