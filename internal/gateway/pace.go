package gateway

import "time"

// maxFramesPerSecond is how many frames of one client, pings and pongs included, are read in a second. The rest
// waits in the network, so that a few clients cannot keep a core busy with frames that cost them nothing.
const maxFramesPerSecond = 2000

// pace counts inbound frames; it is the reader's own.
type pace struct {
	since time.Time
	count int
}

// breathe counts a frame, and waits for the next second when there have been too many in this one.
func (s *session) breathe() {
	p := &s.pace
	now := time.Now()
	if now.Sub(p.since) >= time.Second {
		p.since, p.count = now, 0
	}
	if p.count++; p.count <= maxFramesPerSecond {
		return
	}
	select {
	case <-s.ctx.Done():
	case <-time.After(time.Second - now.Sub(p.since)):
	}
}
