package gateway

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/obscura-relay/obscura/gen/obscurapb"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/core/mailbox"
)

// frameBytes is how much ciphertext one EnvelopeBatch carries, unless a single envelope is larger.
const frameBytes = 64 << 10

// How much a delivery keeps of what was offered and not taken. Beyond it the mailbox is read.
const (
	maxFresh      = 64
	maxFreshBytes = 128 << 10
)

// sink is where a delivery goes: a session, or in tests a list of frames. An error of it ends the
// step.
type sink interface {
	// ask puts one question to the mailbox.
	ask(question func(context.Context) error) error
	// send sends a frame with so many envelopes in it.
	send(frame *obscurapb.WebSocketFrame, envelopes int) error
}

// delivery sends a mailbox to a sink: from the cursor up, in order, with the gaps, as far as the
// window has room. It knows no socket and starts nothing. The pump drives it; settle and offer are
// for any goroutine.
type delivery struct {
	mailbox Mailbox // these five never change
	to      sink
	device  core.DeviceID
	ids     mailbox.IDs
	backlog int64 // the last sequence at connect

	known  atomic.Int64 // a sequence up to which everything was committed
	cursor atomic.Int64 // what has been dealt with; the pump alone moves it

	begun   bool  // owned by the pump: the gaps of earlier times have been told
	drained bool  // owned by the pump: the end of the backlog was told
	told    int64 // owned by the pump: the end of the last gap that was told

	mu         sync.Mutex
	window     window          // guarded by mu
	reported   []reported      // guarded by mu: gaps sent and not forgotten, in order
	sinceLook  int             // guarded by mu: acknowledgements since the gaps were looked at
	fresh      []core.Envelope // guarded by mu: what was offered and not taken, in order
	freshBytes int             // guarded by mu: of ciphertext in them
}

// begin makes it ready for a socket that was opened.
func (d *delivery) begin(from Mailbox, to sink, device core.DeviceID, opened mailbox.Opened) {
	d.mailbox, d.to, d.device, d.ids, d.backlog = from, to, device, mailbox.IDsOf(device), opened.Last
	d.known.Store(opened.Last)
	d.cursor.Store(opened.Floor)
}

// beginEmpty notes that nothing is pending and no gap is to be told, unless something has been
// accepted since: the last sequence of a mailbox without gaps is at the floor then.
func (d *delivery) beginEmpty(last int64) bool {
	if last > d.cursor.Load() {
		return false
	}
	d.begun = true
	return true
}

// settle sorts out which acknowledged sequences are to be deleted, takes out the reported gaps that
// are followed by one of them, and returns what is to be done now.
func (d *delivery) settle(acknowledged []int64) (sequences []int64, gaps []core.Gap, todo steps) {
	d.mu.Lock()
	defer d.mu.Unlock()
	sequences = d.window.settle(acknowledged, d.cursor.Load(), d.backlog)
	if len(sequences) == 0 {
		return nil, nil, 0
	}
	if d.window.stalled {
		d.window.stalled = false
		todo |= doMail
	}
	if d.sinceLook += len(sequences); d.sinceLook >= lateGapsEvery {
		d.sinceLook = 0
		todo |= doGaps
	}
	return sequences, d.passed(slices.Max(sequences)), todo
}

// deliver sends what is pending above the cursor, with the gaps before it, until there is no more
// or the window is full.
func (d *delivery) deliver() error {
	for more := true; more && d.room() > 0; {
		known, cursor := d.known.Load(), d.cursor.Load()
		var page mailbox.Page
		err := d.to.ask(func(ctx context.Context) (err error) {
			page, err = d.mailbox.Read(ctx, d.device, cursor)
			return err
		})
		if err != nil {
			return err
		}
		n := min(len(page.Envelopes), d.room())
		end := cursor
		if n > 0 {
			end = page.Envelopes[n-1].Sequence
		}
		if more = page.More || n < len(page.Envelopes); !more {
			end = max(end, known)
		}
		holes := !d.begun || end-cursor > int64(n)
		if err := d.sendPage(page.Envelopes[:n], holes, end); err != nil {
			return err
		}
		d.begun = true
		if err := d.sendDrained(); err != nil {
			return err
		}
	}
	return nil
}

// room returns how many envelopes may be sent now; after 0 the next acknowledgement goes on.
func (d *delivery) room() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	room := d.window.room()
	d.window.stalled = room == 0
	return room
}

// sendPage sends envelopes and, if there are holes, before the first that follows it each gap up to
// end.
func (d *delivery) sendPage(envelopes []core.Envelope, holes bool, end int64) error {
	from := d.told
	if d.begun { // what was sent on this socket and dropped since is told by sendLateGaps
		from = max(from, d.cursor.Load())
	}
	err := d.eachGap(holes, from, end, func(gap core.Gap) error {
		n := 0
		for n < len(envelopes) && envelopes[n].Sequence < gap.From {
			n++
		}
		if err := d.sendEnvelopes(envelopes[:n]); err != nil {
			return err
		}
		for n < len(envelopes) && envelopes[n].Sequence <= gap.To { // dropped since the page was read
			n++
		}
		envelopes = envelopes[n:]
		return d.sendGap(gap, max(gap.From, from+1), min(gap.To, end))
	})
	if err == nil {
		err = d.sendEnvelopes(envelopes)
	}
	if err == nil {
		d.cursor.Store(max(d.cursor.Load(), end))
	}
	return err
}

// sendEnvelopes sends envelopes in frames of a bounded size and moves the cursor ahead of each
// frame. After an error the rest is read again.
func (d *delivery) sendEnvelopes(envelopes []core.Envelope) error {
	for len(envelopes) > 0 {
		n, size := 0, 0
		for n < len(envelopes) && (n == 0 || size+len(envelopes[n].Message) <= frameBytes) {
			size += len(envelopes[n].Message)
			n++
		}
		batch := &obscurapb.EnvelopeBatch{Envelopes: make([]*obscurapb.Envelope, n)}
		for i := range n {
			batch.Envelopes[i] = d.envelope(&envelopes[i])
		}
		frame := &obscurapb.WebSocketFrame{Payload: &obscurapb.WebSocketFrame_EnvelopeBatch{EnvelopeBatch: batch}}
		d.sending(envelopes[:n])
		if err := d.to.send(frame, n); err != nil {
			return err
		}
		envelopes = envelopes[n:]
	}
	return nil
}

// sending notes what is about to be sent, before it is: an acknowledgement may be quick.
func (d *delivery) sending(envelopes []core.Envelope) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range envelopes {
		d.window.add(envelopes[i].Sequence, len(envelopes[i].Message))
	}
	d.cursor.Store(envelopes[len(envelopes)-1].Sequence)
}

func (d *delivery) envelope(e *core.Envelope) *obscurapb.Envelope {
	id := d.ids.Name(e.Sequence)
	out := &obscurapb.Envelope{
		Id:        id[:],
		Timestamp: uint64(e.AcceptedAt.UnixMilli()), Sequence: uint64(e.Sequence), //nolint:gosec // positive
		Message: e.Message,
	}
	if e.SenderNumber > 0 { // else it is sealed
		out.SenderId, out.SenderDeviceId = e.Sender[:], e.SenderDevice[:]
		out.SenderDeviceNumber = uint32(e.SenderNumber)
	}
	return out
}

// sendDrained tells, once, that the backlog at connect has been sent.
func (d *delivery) sendDrained() error {
	if d.drained || d.cursor.Load() < d.backlog {
		return nil
	}
	d.drained = true
	return d.to.send(&obscurapb.WebSocketFrame{Payload: &obscurapb.WebSocketFrame_Drained{
		Drained: &obscurapb.Drained{Sequence: uint64(d.backlog)}}}, 0) //nolint:gosec // positive
}

// offer keeps committed envelopes for the pump, while there is room, and returns what is to be
// done.
func (d *delivery) offer(envelopes []core.Envelope) (todo steps) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range envelopes {
		d.freshBytes += len(envelopes[i].Message)
	}
	d.fresh = append(d.fresh, envelopes...)
	if len(d.fresh) > maxFresh || d.freshBytes > maxFreshBytes {
		d.fresh, d.freshBytes = nil, 0
		return doMail
	}
	return doFresh
}

// takeFresh takes what was offered. It returns false when the mailbox must be read instead: the
// offer is not next in line behind the cursor, or there is no room for it.
func (d *delivery) takeFresh() (next []core.Envelope, inLine bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	fresh := d.fresh
	d.fresh, d.freshBytes = nil, 0
	cursor := d.cursor.Load()
	for len(fresh) > 0 && fresh[0].Sequence <= cursor {
		fresh = fresh[1:] // read from the mailbox meanwhile
	}
	if !d.drained || len(fresh) > d.window.room() {
		return nil, false
	}
	for i := range fresh {
		if fresh[i].Sequence != cursor+1+int64(i) {
			return nil, false
		}
	}
	return fresh, true
}

// deliverFresh sends what was offered. It returns false when the mailbox must be read instead, or
// for the rest.
func (d *delivery) deliverFresh() (inLine bool, err error) {
	fresh, inLine := d.takeFresh()
	err = d.sendEnvelopes(fresh)
	if errors.Is(err, errYield) { // what was taken is in the mailbox only
		return false, nil
	}
	return inLine, err
}
