package api

import (
	"cmp"
	"math"
	"net/netip"
	"slices"
	"time"
)

// room is what a listener knows of the room that is left.
type room struct {
	lowest int           // the lowest descriptor that was free at the last take
	looked time.Time     // when connections were last looked at, and
	took   time.Duration // how long that took
}

// makeRoom ends connections when less than an eighth of the descriptors is free, so that no address
// can take them all by requests that are answered. It ends those that wait for a further request,
// or have brought a part of it, of the networks that have the most of them: the oldest first, until
// none has more than a level that is low enough. A server may end such connections at any time (RFC
// 9112, 9.5), so those of many honest devices behind one address lose nothing but time. Sockets and
// requests that are being answered stay, and so do connections of the trusted proxies themselves.
//
// The goroutine that accepts calls it, and it takes a tenth of that one's time at most.
func (l *Listener) makeRoom() {
	if l.descriptors == math.MaxInt32 || time.Since(l.room.looked) < 10*l.room.took {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	need := max(len(l.open), l.room.lowest) - (l.descriptors - l.descriptors/8)
	if need <= 0 {
		return
	}
	begun := time.Now()
	waiting, level := map[netip.Addr][]*connection{}, 0
	for c := range l.open {
		if c.waits.Load() > 0 && c.from.IsValid() && phase(c.phase.Load()) != working {
			waiting[c.from] = append(waiting[c.from], c)
			level = max(level, len(waiting[c.from]))
		}
	}
	for above := 0; above < need && level > 0; {
		level /= 2
		above = 0
		for _, all := range waiting {
			above += max(0, len(all)-level)
		}
	}
	for _, all := range waiting {
		slices.SortFunc(all, func(a, b *connection) int { return cmp.Compare(a.waits.Load(), b.waits.Load()) })
		for _, c := range all[:max(0, len(all)-level)] {
			c.endWaiting()
		}
	}
	l.room.looked = time.Now()
	l.room.took = l.room.looked.Sub(begun)
}

// endWaiting ends a connection that waits for a request, or for the rest of one: see EndIdle and
// EndArriving. The server closes it, in a moment.
func (c *connection) endWaiting() {
	switch phase(c.phase.Load()) {
	case idle:
		_ = c.tcp.CloseRead()
	case arriving:
		_ = c.tcp.SetReadDeadline(time.Unix(1, 0))
	case working:
	}
}
