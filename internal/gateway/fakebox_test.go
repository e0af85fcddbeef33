package gateway

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/core/keys"
	"github.com/obscura-relay/obscura/internal/core/mailbox"
)

// fakeBox is the database of a test in fake time: one mailbox that every device shares, its
// sessions and keys. A question can fail, hang or panic, and then it is not taken; or it is taken
// and its answer is lost.
type fakeBox struct {
	*Gateway
	logged bytes.Buffer

	mu         sync.Mutex
	envelopes  []core.Envelope         // guarded by mu
	gaps       []core.Gap              // guarded by mu
	skipped    [][]int64               // guarded by mu: what sockets passed over
	asked      map[string]int          // guarded by mu: questions by name
	ended      map[core.SessionID]bool // guarded by mu
	heard      time.Time               // guarded by mu: when the bus last heard; zero: all the time
	acked      map[int64]bool          // guarded by mu
	generation int64                   // guarded by mu
	// guarded by mu: what a question meets before it is taken; nil: nothing
	trouble func(context.Context, string) error
	// guarded by mu: the bucket is unavailable, so that heads come as zeros
	unknown bool
	// guarded by mu: the question that is taken and whose answer is lost
	lost           string
	opened, closed int // guarded by mu: sockets
	// guarded by mu: what Heads returns beside heads, as when they are not all known
	missed error
}

func newFakeBox() *fakeBox {
	return &fakeBox{asked: map[string]int{}, ended: map[core.SessionID]bool{}, acked: map[int64]bool{}, generation: 1}
}

// inFakeTime runs a test with a gateway that hears of nothing and polls every hour.
func inFakeTime(t *testing.T, test func(t *testing.T, b *fakeBox)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := newFakeBox()
		b.Gateway = New(Config{Mailbox: b, Keys: b, Sessions: b, Node: b, Counters: b, PollInterval: time.Hour,
			Logger: slog.New(slog.NewTextHandler(&b.logged, nil))})
		test(t, b)
		b.served.Wait() // who looks at newcomers may still ask
	})
}

// fill puts n envelopes of a size behind those that there are.
func (b *fakeBox) fill(n, size int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for range n {
		b.envelopes = append(b.envelopes,
			core.Envelope{Sequence: int64(len(b.envelopes) + 1), Message: make([]byte, size)})
	}
}

// meet sets what questions meet from now on.
func (b *fakeBox) meet(trouble func(context.Context, string) error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.trouble = trouble
}

// ask counts a question and lets it meet its trouble.
func (b *fakeBox) ask(ctx context.Context, what string) error {
	b.mu.Lock()
	b.asked[what]++
	trouble := b.trouble
	b.mu.Unlock()
	if trouble == nil {
		return nil
	}
	return trouble(ctx, what)
}

var errLost = errors.New("the answer was lost")

// answer is what whoever asked hears of a question that was taken. The caller holds the lock.
func (b *fakeBox) answer(what string) error {
	if b.lost == what {
		return errLost
	}
	return nil
}

// lose has the answers to a question lost from now on; "" none.
func (b *fakeBox) lose(what string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lost = what
}

func (b *fakeBox) times(what string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.asked[what]
}

func (b *fakeBox) Silence() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.heard.IsZero() {
		return 0
	}
	return time.Since(b.heard)
}

func (b *fakeBox) LiveSessions(ctx context.Context, ids []core.SessionID) ([]core.SessionID, error) {
	err := b.ask(ctx, "sessions")
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(ids), func(id core.SessionID) bool { return b.ended[id] }), err
}

func (b *fakeBox) Counts(ctx context.Context, devices ...core.DeviceID) (map[core.DeviceID]keys.Count, error) {
	if err := b.ask(ctx, "keys"); err != nil {
		return nil, err
	}
	counts := map[core.DeviceID]keys.Count{}
	for _, device := range devices {
		counts[device] = keys.Count{EC: 7, Kyber: 3}
	}
	return counts, nil
}

func (b *fakeBox) Announce(core.Notice) {}
func (b *fakeBox) Left(core.DeviceID)   {}

func (b *fakeBox) last() int64 { return int64(len(b.envelopes)) }

func (b *fakeBox) Open(ctx context.Context, _ core.Principal) (mailbox.Opened, error) {
	if err := b.ask(ctx, "open"); err != nil {
		return mailbox.Opened{}, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.generation++
	return mailbox.Opened{Generation: b.generation, Last: b.last()}, b.answer("open")
}

func (b *fakeBox) Read(ctx context.Context, _ core.DeviceID, after int64) (mailbox.Page, error) {
	if err := b.ask(ctx, "read"); err != nil {
		return mailbox.Page{}, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	var page mailbox.Page
	for _, e := range b.envelopes {
		gone := slices.ContainsFunc(b.gaps, func(g core.Gap) bool { return g.From <= e.Sequence && e.Sequence <= g.To })
		if e.Sequence > after && !gone && !b.acked[e.Sequence] {
			page.Envelopes = append(page.Envelopes, e)
		}
	}
	return page, b.answer("read")
}

func (b *fakeBox) Gaps(ctx context.Context, _ core.DeviceID, after, last int64) (gaps []core.Gap, more bool,
	err error) {
	if err := b.ask(ctx, "gaps"); err != nil {
		return nil, false, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, g := range b.gaps {
		if g.To > after && g.From <= last {
			gaps = append(gaps, g)
		}
	}
	return gaps, false, b.answer("gaps")
}

func (b *fakeBox) Acknowledge(_ core.DeviceID, sequences []int64, _ []core.Gap) error {
	if err := b.ask(context.Background(), "acknowledge"); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, seq := range sequences {
		b.acked[seq] = true
	}
	return b.answer("acknowledge")
}

func (b *fakeBox) PassedOver(_ core.DeviceID, sequences []int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.skipped = append(b.skipped, sequences)
}

func (b *fakeBox) Heads(ctx context.Context, devices []core.DeviceID, _ bool) (heads []mailbox.Head, err error) {
	if err := b.ask(ctx, "heads"); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, device := range devices {
		head := mailbox.Head{Device: device}
		if !b.unknown {
			head = mailbox.Head{Device: device, Generation: b.generation, Last: b.last(), Gaps: len(b.gaps) > 0}
		}
		heads = append(heads, head)
	}
	return heads, b.missed
}

func (b *fakeBox) SocketOpened() { b.mu.Lock(); b.opened++; b.mu.Unlock() }
func (b *fakeBox) SocketClosed() { b.mu.Lock(); b.closed++; b.mu.Unlock() }
func (b *fakeBox) Delivered(int) {}

// connectSome opens n sockets, until end is called.
func (b *fakeBox) connectSome(t *testing.T, n int) (end func()) {
	var sockets []*fakeSocket
	var ends []<-chan struct{}
	for range n {
		f, _, done := b.connect(t, 10, accepted{})
		sockets, ends = append(sockets, f), append(ends, done)
	}
	return func() {
		for i, f := range sockets {
			close(f.in)
			<-ends[i]
		}
	}
}

// connect opens a socket whose reader takes room messages by itself.
func (b *fakeBox) connect(t *testing.T, room int, h accepted) (*fakeSocket, core.Principal, <-chan struct{}) {
	h.principal = core.Principal{User: uuid.New(), Device: uuid.New(), Session: uuid.New(), DeviceNumber: 1}
	f := newFake(t, room)
	return f, h.principal, f.start(b.Gateway, h)
}
