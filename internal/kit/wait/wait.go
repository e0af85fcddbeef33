// Package wait lets a test wait for what happens by and by. For tests only.
//
// A condition is looked at again and again, every few milliseconds, until it holds. A wait that is
// in vain ends after Patience, which is far more than anything takes: how fast something is, is not
// what these waits are about.
package wait

import (
	"testing"
	"time"
)

// Patience bounds a wait.
const Patience = time.Minute

// Eventually waits until a condition holds, and ends the test if that takes longer than Patience.
func Eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	if !Within(Patience, condition) {
		t.Fatalf("it never came true: %s", what)
	}
}

// Within waits until a condition holds, and reports whether it did in time.
func Within(bound time.Duration, condition func() bool) bool {
	deadline := time.After(bound)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			return condition()
		}
	}
	return true
}
