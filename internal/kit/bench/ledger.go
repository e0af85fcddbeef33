package bench

import "sync/atomic"

// A ledger knows, for every number that a submission carried, whether the relay accepted it and how
// often it arrived. Its methods may be called from any goroutine.
type ledger struct {
	next   atomic.Uint64
	pages  [ledgerPages]atomic.Pointer[ledgerPage]
	gaps   atomic.Int64 // envelopes that the relay reported as dropped
	wrong  atomic.Int64 // arrived at a device they were not sent to
	twisty atomic.Int64 // arrived for the first time after a later one of the same sender
	alien  atomic.Int64 // arrived and were not of this run
}

const (
	ledgerPages = 1 << 14
	pageNumbers = 1 << 16

	accepted = 1 << 31 // the rest of an entry counts arrivals
)

type ledgerPage [pageNumbers]atomic.Uint32

// claim reserves n numbers and returns the first.
func (l *ledger) claim(n int) uint64 {
	first := l.next.Add(uint64(n)) - uint64(n)
	for page := first / pageNumbers; page <= (first+uint64(n)-1)/pageNumbers; page++ {
		if l.pages[page].Load() == nil {
			l.pages[page].CompareAndSwap(nil, new(ledgerPage))
		}
	}
	return first
}

// entry is nil for a number that was never claimed.
func (l *ledger) entry(number uint64) *atomic.Uint32 {
	if number >= l.next.Load() {
		return nil
	}
	page := l.pages[number/pageNumbers].Load()
	if page == nil {
		return nil
	}
	return &page[number%pageNumbers]
}

// accept notes that the relay promised to keep a submission.
func (l *ledger) accept(number uint64) { l.entry(number).Or(accepted) }

// arrive notes an arrival and reports whether it is the first.
func (l *ledger) arrive(number uint64) (first, known bool) {
	e := l.entry(number)
	if e == nil {
		l.alien.Add(1)
		return false, false
	}
	return e.Add(1)&^accepted == 1, true
}

// account is the ledger's balance.
type account struct {
	accepted    int64 // promised by the relay
	delivered   int64 // of those, arrived at least once
	duplicated  int64 // arrivals beyond the first, of any
	unconfirmed int64 // arrived without a promise: the answer was lost or an error
}

func (l *ledger) balance() (a account) {
	end := l.next.Load()
	for number := uint64(0); number < end; number++ {
		e := l.entry(number)
		if e == nil {
			continue
		}
		v := e.Load()
		arrivals := int64(v &^ accepted)
		switch {
		case v&accepted != 0 && arrivals > 0:
			a.accepted++
			a.delivered++
		case v&accepted != 0:
			a.accepted++
		case arrivals > 0:
			a.unconfirmed++
		}
		a.duplicated += max(arrivals-1, 0)
	}
	return a
}

// lost is what was promised and neither arrived nor was reported in a gap.
func (l *ledger) lost(a account) int64 { return max(a.accepted-a.delivered-l.gaps.Load(), 0) }
