package faults_test

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/obscura-relay/obscura/internal/kit/relaytest"
	"github.com/obscura-relay/obscura/internal/kit/wait"
)

// run is one load with one fault in it, and its ledger.
type run struct {
	world      *world
	ledger     *ledger
	senders    []*sender
	recipients []*recipient
	// gate lets a fault find no request under way.
	gate sync.RWMutex
}

// load says how much is sent. The zero value is what most faults need.
type load struct {
	// requests that each sender makes at least.
	requests int
	// manners of the recipients.
	manners []manner
	// filling is the size of messages.
	filling int
	// silence says that requests may get no answer at all: something swallows them.
	silence bool
}

var everyManner = []manner{prompt, prompt, prompt, lazy, skipper, never}

const senders = 4

// mostRequests bounds the load of one sender in one run.
const mostRequests = 20_000

// play lets a load run, breaks something in its middle, and checks the ledger. The fault must have
// mended what it broke when it returns.
func (w *world) play(t *testing.T, l load, fault func(t *testing.T, r *run)) {
	t.Helper()
	r := w.newRun(t, &l)
	ctx, stop := context.WithCancel(context.Background())
	var people, sending sync.WaitGroup
	defer people.Wait()
	defer stop()
	defer func() {
		if t.Failed() {
			t.Logf("so far: %s, %v", r.ledger, r.ledger.wrong)
			for _, n := range w.nodes {
				t.Logf("the last lines of node %s:\n%s", n.name, n.lastWords())
			}
		}
	}()
	for _, recipient := range r.recipients[1:] { // the first one comes late
		people.Go(func() { recipient.run(ctx) })
	}
	enough := make(chan struct{})
	for _, s := range r.senders {
		sending.Go(func() { s.run(ctx, l.requests, mostRequests, enough) })
	}
	finished := sync.OnceFunc(func() { close(enough) })
	defer finished()
	r.progress(t, 2*senders)
	people.Go(func() { r.recipients[0].run(ctx) })
	r.progress(t, 2*senders)
	fault(t, r)
	w.awaitReady(t)
	r.progress(t, 2*senders)
	finished()
	done := make(chan struct{})
	go func() { sending.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(patience):
		t.Errorf("not every sender was told in time: %s", r.ledger)
		stop()
		<-done
	}
	r.settle(t)
	stop()
	people.Wait()
	r.audit(t)
	r.report(t)
}

func (w *world) newRun(t *testing.T, l *load) *run {
	t.Helper()
	if l.requests == 0 {
		l.requests = 12
	}
	if l.filling == 0 {
		l.filling = 300
	}
	if l.manners == nil {
		l.manners = everyManner
	}
	r := &run{world: w, ledger: newLedger()}
	// Who lets a connection idle for less than a drain takes never writes into one that is closed.
	transport := &http.Transport{MaxIdleConnsPerHost: 32, IdleConnTimeout: drainTime / 2}
	t.Cleanup(transport.CloseIdleConnections)
	devices := newDevices(t, w.anyEntrance(),
		&http.Client{Transport: relaytest.Validated(t, transport), Timeout: 8 * time.Second}, senders+len(l.manners))
	for i, m := range l.manners {
		d := devices[senders+i]
		r.recipients = append(r.recipients, &recipient{device: d, book: newBook(d, r.ledger.complain), world: w,
			ledger: r.ledger, manner: m})
	}
	for _, d := range devices[:senders] {
		r.senders = append(r.senders, &sender{device: d, world: w, ledger: r.ledger, to: r.recipients,
			filling:   l.filling,
			silenceOK: l.silence, gate: &r.gate})
	}
	return r
}

// progress waits until senders have been told so many times more.
func (r *run) progress(t testing.TB, answers int) {
	t.Helper()
	begin := r.ledger.read(&r.ledger.answered)
	wait.Eventually(t, "senders are told 200 again", func() bool { return r.ledger.read(&r.ledger.answered) >= begin+answers })
}

// refusals waits until senders have been refused so many times more, or their connections broken.
func (r *run) refusals(t testing.TB, n int) {
	t.Helper()
	count := func() int { return r.ledger.read(&r.ledger.refused) + r.ledger.read(&r.ledger.broken) }
	begin := count()
	wait.Eventually(t, "senders notice the outage", func() bool { return count() >= begin+n })
}

// settle waits until every device has everything, first on the connections that there are, and
// then, since what was not acknowledged must come again, on new ones. All devices have the same
// patience together, so that a relay that delivers to none is reported before the tests' own time
// ends.
func (r *run) settle(t *testing.T) {
	t.Helper()
	deadline := time.Now().Add(4 * patience)
	within := func(condition func() bool) bool {
		return wait.Within(min(patience, max(0, time.Until(deadline))), condition)
	}
	for _, recipient := range r.recipients {
		if recipient.erased.Load() != nil {
			continue
		}
		last := uint64(r.world.numbers(t, `SELECT next_seq - 1 FROM mailboxes WHERE device_id = $1`, recipient.id)[0])
		if recipient.manner != never && !within(func() bool { return recipient.missing(last) == 0 }) {
			t.Errorf("without a reconnect a device does not get sequence %d of %d; it has %s", recipient.missing(last),
				last, recipient.book)
		}
		recipient.diligent.Store(true)
		recipient.refresh(t)
		if !within(func() bool { return recipient.missing(last) == 0 }) {
			t.Errorf("a device does not get sequence %d of %d; it has %s", recipient.missing(last), last,
				recipient.book)
		}
	}
	for _, recipient := range r.recipients {
		if recipient.erased.Load() == nil && (recipient.manner == prompt || recipient.manner == lazy) {
			within(func() bool { // what remains is for the audit to judge
				return r.world.numbers(t, `SELECT count(*) FROM messages WHERE device_id = $1`, recipient.id)[0] == 0
			})
		}
	}
}

// report prints the ledger and fails the test when it does not balance.
func (r *run) report(t *testing.T) {
	t.Helper()
	t.Logf("ledger: %s", r.ledger)
	r.ledger.mu.Lock()
	defer r.ledger.mu.Unlock()
	for _, what := range r.ledger.wrong {
		t.Error(what)
	}
	for _, what := range r.world.complaints() {
		t.Error(what)
	}
}
