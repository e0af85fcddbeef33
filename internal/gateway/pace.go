package gateway

import "time"

// What is read of one client in a second, pings and pongs included: so many frames, or fewer if they are
// large, 1 MiB at most. The rest waits in the network, so that a few clients cannot keep a core busy
// with frames that cost them nothing.
const (
	maxFramesPerSecond = 2000
	frameWorth         = (1 << 20) / maxFramesPerSecond // bytes that count as a further frame
)

// pace counts inbound frames; it is the reader's own.
type pace struct {
	since time.Time
	count int
}

// breathe counts a frame by its bytes, and waits for the next second when there have been too many in this one.
func (s *session) breathe(bytes int) {
	p := &s.pace
	now := time.Now()
	if now.Sub(p.since) >= time.Second {
		p.since, p.count = now, 0
	}
	if p.count += 1 + bytes/frameWorth; p.count <= maxFramesPerSecond {
		return
	}
	select {
	case <-s.ctx.Done():
	case <-time.After(time.Second - now.Sub(p.since)):
	}
}
