package api

import (
	"runtime"
	"testing"
)

// Without it the relay took 681 MiB under log-ins that followed upon bodies which broke off, and
// 185 with it.
func TestGarbageOfBodiesThatBreakOffIsCollected(t *testing.T) {
	b := &bodies{most: maxBodies, of: map[limitKey]int{}}
	collected := func() uint32 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.NumForcedGC
	}
	breakOff := func(bytes int) {
		t.Helper()
		p, err := b.take(limitKey{}, bytes)
		if err != nil {
			t.Fatal(err)
		}
		p.breakOff()
	}
	before := collected()
	for range brokenBytes/maxBodiesOfOne - 1 {
		breakOff(maxBodiesOfOne)
	}
	if collected() != before {
		t.Error("a little is collected at once")
	}
	breakOff(maxBodiesOfOne)
	if collected() != before+1 || b.inFlight() != 0 {
		t.Errorf("%d collections, %d bytes are left", collected()-before, b.inFlight())
	}
	(*place)(nil).breakOff()
}
