package limit

import "runtime"

// Cores is how many processor cores Go found for this process, or the variable GOMAXPROCS.
var Cores = runtime.GOMAXPROCS(0)

// SpareProcessors gives Go twice as many processors as there are cores. What keeps every core busy
// for long, as the hashing of passwords does, then leaves a processor to everything else, and the
// operating system divides the cores among them. With one processor a core, each step of any other
// request waits for Go's own time slices of 10 ms.
func SpareProcessors() { runtime.GOMAXPROCS(2 * Cores) }
