package bench

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	mathrand "math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/valyala/fasthttp"
)

// A window is the part of a run that counts: after the warm-up, until the end.
type window struct {
	start    time.Time // of the run: the clock's zero
	from, to time.Duration
}

func (w *window) now() time.Duration { return time.Since(w.start) }

func (w *window) holds(t time.Duration) bool { return t >= w.from && t < w.to }

// load is what a relay run shares: the ledger, the clock and the counts.
type load struct {
	window   window
	api      *api
	people   *people
	ledger   ledger
	run      uint64
	filler   []byte
	size     int
	batch    int
	rate     float64 // requests a second; 0 for as fast as answers come
	turn     atomic.Int64
	errors   kinds
	send     histogram
	endToEnd histogram
	late     histogram // how long after it was due a request was sent, under a given rate

	accepted, delivered, acked atomic.Int64 // within the window
	acceptedAll                atomic.Int64
}

func newLoad(a *api, p *people, size, batch int, rate float64) *load {
	l := &load{api: a, people: p, size: size, batch: batch, rate: rate / float64(batch)}
	l.filler = make([]byte, 64<<10)
	_, _ = rand.Read(l.filler) // never fails
	l.run = binary.BigEndian.Uint64(l.filler)
	return l
}

// A sender sends one request after another. Under a given rate the requests of all senders are due at
// fixed instants, and whoever is free takes the next one.
type sender struct {
	load     *load
	number   uint32
	device   *device
	request  *fasthttp.Request
	response *fasthttp.Response
	body     []byte
	token    string
	asked    time.Time
	// pick chooses the recipient of each submission.
	pick func() int
}

func (l *load) sender(number int, pick func() int) *sender {
	if pick == nil {
		source := mathrand.New(mathrand.NewPCG(l.run, uint64(number))) //nolint:gosec // recipients, not secrets
		pick = func() int { return source.IntN(len(l.people.devices)) }
	}
	s := &sender{load: l, number: uint32(number), device: l.people.devices[number%len(l.people.devices)], //nolint:gosec // small
		request: &fasthttp.Request{}, response: &fasthttp.Response{}, pick: pick}
	s.request.Header.SetMethod("POST")
	s.request.SetRequestURI(l.api.base.Scheme + "://" + l.api.base.Host + "/v1/messages")
	s.request.Header.SetContentType(protobufBody)
	return s
}

// run sends until the window ends or ctx does.
func (s *sender) run(ctx context.Context) {
	l := s.load
	for ctx.Err() == nil {
		due := l.window.now()
		if l.rate > 0 {
			due = time.Duration(float64(l.turn.Add(1)-1) / l.rate * float64(time.Second))
			if due >= l.window.to || wait(ctx, due-l.window.now()) != nil && due > l.window.now() {
				return
			}
			if l.window.holds(due) {
				l.late.record(l.window.now() - due)
			}
		}
		if l.window.now() >= l.window.to && l.rate == 0 {
			return
		}
		if pause := s.once(ctx, due); pause > 0 && wait(ctx, min(pause, l.window.to-l.window.now())) != nil {
			return
		}
	}
}

// once sends one request and notes what became of it. It returns how long the relay asks to wait.
func (s *sender) once(ctx context.Context, due time.Duration) (pause time.Duration) {
	l := s.load
	first := l.ledger.claim(l.batch)
	s.fill(first, due)
	if time.Since(s.asked) > time.Minute { // it may have been renewed
		s.asked, s.token = time.Now(), s.device.token(ctx, l.api)
		s.request.Header.Set("Authorization", "Bearer "+s.token)
	}
	s.request.SetBodyRaw(s.body)
	err := l.api.client.DoTimeout(s.request, s.response, httpTimeout)
	now := l.window.now()
	if err == nil && s.response.StatusCode() != fasthttp.StatusOK {
		err = refused(s.response)
	}
	if err != nil {
		l.errors.add(kindOf(err))
		var r *refusal
		if errors.As(err, &r) && r.mayPass() {
			return max(r.after, 100*time.Millisecond)
		}
		return 100 * time.Millisecond
	}
	failed := s.account(first)
	if l.window.holds(due) {
		l.send.record(now - due)
	}
	l.acceptedAll.Add(int64(l.batch - failed))
	if l.window.holds(now) {
		l.accepted.Add(int64(l.batch - failed))
	}
	return 0
}

// fill makes the body of a request.
func (s *sender) fill(first uint64, due time.Duration) {
	l := s.load
	s.body = s.body[:0]
	for i := range l.batch {
		to := s.pick()
		number := first + uint64(i) //nolint:gosec // not negative
		offset := int(number*61) % (len(l.filler) / 2)
		s.body = appendSubmission(s.body, l.submissionID(number), l.people.devices[to].id,
			payload{run: l.run, number: number, due: due, device: uint32(to), sender: s.number}, l.size, l.filler[offset:]) //nolint:gosec // small
	}
}

func (l *load) submissionID(number uint64) (id uuid.UUID) {
	binary.BigEndian.PutUint64(id[:], l.run)
	binary.BigEndian.PutUint64(id[8:], number)
	return id
}

// account notes what the answer promises and returns how many submissions it does not.
func (s *sender) account(first uint64) (failed int) {
	l := s.load
	var not map[uint64]bool
	err := failedSubmissions(s.response.Body(), func(id []byte, code uint64) {
		l.errors.add(failureName(code))
		if not == nil {
			not = map[uint64]bool{}
		}
		if len(id) == 16 {
			not[binary.BigEndian.Uint64(id[8:])] = true
		}
	})
	if err != nil {
		l.errors.add("an answer that is not a SendMessageResponse")
		return l.batch
	}
	for i := range uint64(l.batch) { //nolint:gosec // not negative
		if !not[first+i] {
			l.ledger.accept(first + i)
		}
	}
	return len(not)
}

// take notes what arrived at a device.
func (l *load) take(r *receiver, f *frame) {
	l.ledger.gaps.Add(f.dropped)
	if len(f.envelopes) == 0 {
		return
	}
	now := l.window.now()
	for i := range f.envelopes {
		p, ok := readPayload(f.envelopes[i].message)
		if !ok || p.run != l.run {
			l.ledger.alien.Add(1)
			continue
		}
		if int(p.device) != r.number {
			l.ledger.wrong.Add(1)
		}
		if first, _ := l.ledger.arrive(p.number); !first {
			continue
		}
		r.order(&l.ledger, p)
		if l.window.holds(p.due) {
			l.endToEnd.record(now - p.due)
		}
		if l.window.holds(now) {
			l.delivered.Add(1)
		}
	}
}

// order counts a first arrival that came after a later one of the same sender.
func (r *receiver) order(l *ledger, p payload) {
	if r.last == nil {
		r.last = map[uint32]uint64{}
	}
	if p.number < r.last[p.sender] {
		l.twisty.Add(1)
		return
	}
	r.last[p.sender] = p.number
}

// connectAll opens the gateway for devices and returns when all are open, or with the first reason
// why one is not. The receivers run until ctx ends; done waits for them.
func connectAll(ctx context.Context, receivers []*receiver, tell func(done, of int)) (done func(), err error) {
	var wg sync.WaitGroup
	var opened atomic.Int64
	ready := make(chan struct{})
	slots := make(chan struct{}, 64) // a storm of handshakes is not what is measured
	for _, r := range receivers {
		release := sync.OnceFunc(func() { <-slots })
		r.open = func() {
			release()
			n := opened.Add(1)
			if n == int64(len(receivers)) {
				close(ready)
			}
		}
		wg.Go(func() {
			slots <- struct{}{}
			r.run(ctx)
			release()
		})
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ready:
			return wg.Wait, nil
		case <-tick.C:
			tell(int(opened.Load()), len(receivers))
		case <-ctx.Done():
			return wg.Wait, ctx.Err()
		}
	}
}
