package limit

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/obscura-relay/obscura/internal/core"
)

func TestAPoolHasPlacesAndAQueueAndRefusesTheRest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := NewPool(2, 3)
		ctx, cancel := context.WithCancel(t.Context())
		results := make(chan error, 8)
		for range 8 {
			go func() { results <- p.Enter(ctx) }()
		}
		synctest.Wait()
		if len(results) != 5 {
			t.Fatalf("%d have an answer, want 2 that are in and 3 that are refused", len(results))
		}
		in := 0
		for range 5 {
			if <-results == nil {
				in++
			}
		}
		if in != 2 {
			t.Fatalf("%d are in", in)
		}
		p.Leave()
		synctest.Wait()
		if len(results) != 1 || <-results != nil {
			t.Fatal("one that waited is not in")
		}
		cancel()
		synctest.Wait()
		if len(results) != 2 || <-results == nil || <-results == nil {
			t.Fatal("those that wait did not go with their contexts")
		}
		p.Leave()
		p.Leave()
		if err := p.Enter(t.Context()); err != nil || p.waiting.Load() != 0 {
			t.Errorf("%v, %d wait", err, p.waiting.Load())
		}
	})
}

func TestAPoolSaysWhoWaitsAndForHowLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPool(1, 4)
		ctx, sum := core.WithWaited(t.Context())
		if err := p.Enter(ctx); err != nil || sum() != 0 {
			t.Fatal(err, sum())
		}
		entered := make(chan error, 1)
		go func() { entered <- p.Enter(ctx) }()
		synctest.Wait()
		if p.Waiting() != 1 || p.Full() != 0.25 {
			t.Errorf("%d wait, %v full", p.Waiting(), p.Full())
		}
		time.Sleep(2 * time.Second) // fake time
		p.Leave()
		if err := <-entered; err != nil || sum() != 2*time.Second || p.Full() != 0 {
			t.Errorf("%v, waited %s, %v full", err, sum(), p.Full())
		}
	})
}
