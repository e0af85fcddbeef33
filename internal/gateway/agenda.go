package gateway

import (
	"errors"
	"sync"
	"time"
)

// retryAfter is when something that met a failing database is tried again.
const retryAfter = time.Second

// steps are what a session has to do, as bits, the most urgent first.
type steps uint16

const (
	doClose steps = 1 << iota
	doPong
	doPing
	doBegin  // with what was found about the socket
	doVerify // that the session still exists
	doStatus
	doGaps  // tell of what was dropped after it was sent
	doFresh // send what was offered, from memory if it is next in line
	doMail  // read the mailbox
)

// errYield says that something more urgent came up, and errLater that the database did not answer:
// the step is to be done again, at once or after a moment.
var (
	errYield = errors.New("yield")
	errLater = errors.New("later")
)

// agenda is what a session has to do. Any goroutine adds to it; one takes from it, the pump, which
// exists only while there is something to do.
type agenda struct {
	mu        sync.Mutex
	todo      steps         // guarded by mu
	held      steps         // guarded by mu: not to be taken before release
	postponed steps         // guarded by mu: added again when retry fires
	retry     *time.Timer   // guarded by mu: nil until something was postponed
	running   bool          // guarded by mu: the pump exists
	over      bool          // guarded by mu: nothing more is to be done
	ended     chan struct{} // guarded by mu: made by stop, closed by the pump at its end
	waiting   chan<- error  // guarded by mu: where the pump waits for an answer; has room for one
}

// add adds steps, and returns false when nothing more is to be done. Whoever gets start must start
// the pump.
func (a *agenda) add(todo steps) (start, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.over {
		return false, false
	}
	a.todo |= todo
	if todo&doClose != 0 {
		tell(a.waiting, errYield)
	}
	start = !a.running && a.todo&^a.held != 0
	a.running = a.running || start
	return start, true
}

// next takes the most urgent step; a close is the last one. 0: nothing, and the pump counts as
// ended.
func (a *agenda) next() (step steps) {
	a.mu.Lock()
	defer a.mu.Unlock()
	ready := a.todo &^ a.held
	if ready == 0 || a.over {
		a.running = false
		if a.ended != nil {
			close(a.ended)
		}
		return 0
	}
	step = ready & -ready
	a.todo &^= step
	a.over = step == doClose
	return step
}

// yield returns errYield when a ping or a close waits.
func (a *agenda) yield() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.todo&(doPing|doClose) != 0 {
		return errYield
	}
	return nil
}

// await has errYield told when the socket is to be closed, or has ended, before there is an answer.
// nil: nothing is waited for any more.
func (a *agenda) await(answer chan<- error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.waiting = answer
	if a.over || a.todo&doClose != 0 {
		tell(answer, errYield)
	}
}

// tell tells the first of several answers.
func tell(answer chan<- error, err error) {
	select {
	case answer <- err:
	default:
	}
}

// release lets steps be taken that were held. Whoever calls it adds another one, or takes one.
func (a *agenda) release() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.held = 0
}

// postpone keeps a step for a moment, and then has resume called.
func (a *agenda) postpone(step steps, resume func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.postponed |= step
	switch {
	case a.over:
	case a.retry == nil:
		a.retry = time.AfterFunc(retryAfter, resume)
	default:
		a.retry.Reset(retryAfter)
	}
}

// due takes what was postponed.
func (a *agenda) due() (todo steps) {
	a.mu.Lock()
	defer a.mu.Unlock()
	todo, a.postponed = a.postponed, 0
	return todo
}

// stop ends the agenda. The channel is closed when the pump has taken its last step; it is nil when
// there is no pump.
func (a *agenda) stop() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.over = true
	tell(a.waiting, errYield)
	if a.retry != nil {
		a.retry.Stop()
	}
	if a.running && a.ended == nil {
		a.ended = make(chan struct{})
	}
	return a.ended
}
