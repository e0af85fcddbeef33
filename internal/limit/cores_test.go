package limit

import (
	"runtime"
	"testing"
)

func TestProcessorsAreTwiceTheCoresUnlessSet(t *testing.T) {
	before := runtime.GOMAXPROCS(0)
	t.Cleanup(func() { runtime.GOMAXPROCS(before) })
	for set, want := range map[string]int{"": 2 * Cores, "3": before} {
		runtime.GOMAXPROCS(before)
		t.Setenv("GOMAXPROCS", set)
		if SpareProcessors(); runtime.GOMAXPROCS(0) != want {
			t.Errorf("with GOMAXPROCS=%q there are %d, want %d", set, runtime.GOMAXPROCS(0), want)
		}
	}
}
