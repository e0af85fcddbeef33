package limit

import (
	"os"
	"runtime"
)

// Cores is how many processor cores Go found for this process, or the variable GOMAXPROCS.
var Cores = runtime.GOMAXPROCS(0)

// SpareProcessors gives Go twice as many processors as there are cores, unless the variable
// GOMAXPROCS says how many. A container's limit that changes later is not followed. What keeps
// every core busy for long, as the hashing of passwords does, then leaves a processor to
// everything else, and the operating system divides the cores among them. With one processor a
// core, each step of any other request waits for Go's own time slices of 10 ms.
func SpareProcessors() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(2 * Cores)
	}
}
