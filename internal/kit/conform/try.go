package conform

import (
	"context"
	"fmt"
	"sync"
	"time"
)

const (
	// checkTimeout bounds a check, with everything that it waits for.
	checkTimeout = 90 * time.Second
	// patience bounds the wait for one answer or frame.
	patience = 10 * time.Second
	// soon is for what the contract says happens within a second: one for the relay, one for the
	// way.
	soon = 2 * time.Second
)

// A try is one run of a check. A check that has seen enough stops by panic with a verdict.
type try struct {
	*kit
	ctx context.Context

	used map[*user]bool // guarded by kit.sharing: owners of the shared devices that this try has

	mu      sync.Mutex
	sockets []*socket // guarded by mu: to be closed when the try ends
}

// verdict ends a try early.
type verdict struct {
	result Result
	reason string
}

// fail ends the try: the relay breaks the promise.
func (t *try) fail(format string, values ...any) {
	panic(verdict{Fail, fmt.Sprintf(format, values...)})
}

// must fails unless a condition holds.
func (t *try) must(holds bool, format string, values ...any) {
	if !holds {
		t.fail(format, values...)
	}
}

// notOffered ends the try: the relay does without this.
func (t *try) notOffered(reason string) { panic(verdict{NotOffered, reason}) }

// judge runs a check to its verdict.
func (k *kit) judge(ctx context.Context, run func(*try)) (v verdict) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	t := &try{kit: k, ctx: ctx, used: map[*user]bool{}}
	defer func() {
		v = asVerdict(recover())
		for _, s := range t.sockets {
			s.drop()
		}
	}()
	run(t)
	return v
}

// asVerdict reads what a try ended with. A mistake in a check is no reason to leave users behind.
func asVerdict(thrown any) verdict {
	switch v := thrown.(type) {
	case nil:
		return verdict{result: Pass}
	case verdict:
		return v
	default:
		return verdict{Fail, fmt.Sprintf("the check itself broke: %v", v)}
	}
}

// together calls f n times at once, with 0 to n-1, and waits. If some end the try, the first does.
func (t *try) together(n int, f func(i int)) {
	verdicts := make([]verdict, n)
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			defer func() { verdicts[i] = asVerdict(recover()) }()
			<-start
			f(i)
		})
	}
	close(start)
	wg.Wait()
	for _, v := range verdicts {
		if v.result != Pass {
			panic(v)
		}
	}
}

// eventually tries something again and again, for as long as it may take.
func (t *try) eventually(within time.Duration, what string, holds func() bool) {
	deadline := time.Now().Add(within)
	for pause := 25 * time.Millisecond; !holds(); pause = min(2*pause, 400*time.Millisecond) {
		t.must(time.Now().Before(deadline), "%s, for %v", what, within)
		t.wait(pause)
	}
}

// wait lets time pass.
func (t *try) wait(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.ctx.Done():
		t.fail("the check took too long, or was interrupted")
	}
}
