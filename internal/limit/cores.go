package limit

import (
	"os"
	"runtime"
)

// Cores is how many processor cores Go found for this process, or the variable GOMAXPROCS.
var Cores = runtime.GOMAXPROCS(0)

// SpareProcessors gives Go twice as many processors as there are cores, unless the variable
// GOMAXPROCS says how many. Hashing passwords keeps a processor a core busy; the others are for all
// other requests, which would wait for a time slice of 10 ms at each step. The operating system
// divides the cores among them. A limit of a container that changes later is not followed.
func SpareProcessors() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(2 * Cores)
	}
}
