package bench

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
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
	window window
	api    *api
	people *people
	ledger ledger
	run    uint64
	filler []byte
	size   int
	batch  int
	noKey  bool // requests carry no Idempotency-Key
	// sealed requests show delivery tokens, and no access token.
	sealed   bool
	rate     float64 // requests a second; 0 for as fast as answers come
	shared   sharing // of `obscura bench relay --shared`
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

// take notes what arrived at a device.
func (l *load) take(r *receiver, f *frame) {
	l.ledger.gaps.Add(f.dropped)
	if len(f.envelopes) == 0 {
		return
	}
	now := l.window.now()
	for i := range f.envelopes {
		p, ok := l.shared.read(l, r, f.envelopes[i].message)
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

// connectPatience is longer than a relay under a storm of connects needs for one.
const connectPatience = 10 * time.Second

// connectAll opens the gateway for devices and returns when all are open, or with the last reason
// why one is not when none has opened for connectPatience. The receivers run until ctx ends; done
// waits for them.
func connectAll(ctx context.Context, receivers []*receiver, tell func(done, of int)) (done func(), err error) {
	var wg sync.WaitGroup
	var opened atomic.Int64
	ready := make(chan struct{})
	slots := make(chan struct{}, 64) // a storm of handshakes is not what is measured
	reason := errors.New("no answer")
	var mu sync.Mutex // guards reason
	for _, r := range receivers {
		fail := r.fail
		r.fail = func(err error) {
			mu.Lock()
			reason = err
			mu.Unlock()
			fail(err)
		}
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
	before, since := int64(0), time.Now()
	for {
		select {
		case <-ready:
			return wg.Wait, nil
		case <-tick.C:
			n := opened.Load()
			tell(int(n), len(receivers))
			if n != before {
				before, since = n, time.Now()
			}
			if time.Since(since) > connectPatience {
				mu.Lock()
				defer mu.Unlock()
				return wg.Wait, fmt.Errorf("%d of %d devices are connected and no other is let in: %w", n,
					len(receivers), reason)
			}
		case <-ctx.Done():
			return wg.Wait, ctx.Err()
		}
	}
}
