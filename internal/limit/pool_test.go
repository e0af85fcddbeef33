package limit

import (
	"context"
	"testing"
	"testing/synctest"
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
