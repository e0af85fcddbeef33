package gateway

import "time"

// What is read of one client in a second: so many frames, pings and pongs included, and so many bytes of
// the network, headers of frames included. The rest waits in the network, so that a few clients cannot keep
// a core busy with frames that cost them nothing. The library joins the parts of a fragmented message by
// itself (RFC 6455, section 5.4): empty parts without end are met as bytes only.
const (
	maxFramesPerSecond = 2000
	maxBytesPerSecond  = 1 << 20
)

// pace counts what comes in; it is the reader's own.
type pace struct {
	since         time.Time
	frames, bytes int
}

// breathe counts, and waits for the next second when there has been too much in this one.
func (s *session) breathe(frames, bytes int) {
	p := &s.pace
	now := time.Now()
	if now.Sub(p.since) >= time.Second {
		*p = pace{since: now}
	}
	p.frames += frames
	p.bytes += bytes
	if p.frames <= maxFramesPerSecond && p.bytes <= maxBytesPerSecond {
		return
	}
	select {
	case <-s.ctx.Done():
	case <-time.After(time.Second - now.Sub(p.since)):
	}
}
