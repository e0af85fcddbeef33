package gateway

import (
	"runtime/debug"
	"time"
)

// tidyAfter is how long no more sockets must have come before the garbage of their handshakes, which is
// about as much as what idle ones keep, is given back: while they idle nothing else would collect it.
const tidyAfter = 15 * time.Second

// tidy is what Run remembers to give memory back after sockets have come.
type tidy struct {
	sockets int       // when memory was last given back
	peak    int       // since then
	grown   time.Time // when the peak rose
}

// tidy gives memory back once the number of sockets has grown by a tenth and then rested.
func (g *Gateway) tidy(now time.Time) {
	g.mu.RLock()
	n := len(g.sessions)
	g.mu.RUnlock()
	t := &g.tidied
	if n > t.peak {
		t.peak, t.grown = n, now
	}
	if t.peak > t.sockets+t.sockets/10+100 && now.Sub(t.grown) > tidyAfter {
		debug.FreeOSMemory()
		t.sockets, t.peak = n, n
	}
	if n < t.sockets {
		t.sockets, t.peak = n, n
	}
}
