package gateway

import (
	"context"
	"maps"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/internal/core"
)

// pollStep is how many mailboxes one query of the poll looks at.
const pollStep = 500

// Sockets must not outlive their revocation by more than a second. A node that may not hear of
// revocations, because the bus has been silent for deafAfter, polls at every pollTick. The bus
// proves itself every 250 ms, so a healthy one is not silent for so long, and then a tick costs
// nothing.
const (
	pollTick  = 200 * time.Millisecond
	deafAfter = 500 * time.Millisecond
)

// Run looks at the mailboxes of all sockets from time to time, until ctx ends: the net under the
// notices. It finds mail, displaced and revoked sockets whose notice was lost.
func (g *Gateway) Run(ctx context.Context) error {
	ticker := time.NewTicker(pollTick)
	defer ticker.Stop()
	failing := false
	for due := time.Now(); ; {
		select {
		case <-ctx.Done():
			return nil
		case <-g.look:
		case now := <-ticker.C:
			g.tidy(now)
			if now.Before(due) && g.cfg.Node.Silence() < deafAfter {
				continue
			}
		}
		err := g.Poll(ctx)
		if ctx.Err() != nil {
			return nil
		}
		due = time.Now().Add(g.cfg.PollInterval + rand.N(g.cfg.PollInterval/5) - g.cfg.PollInterval/10)
		if err != nil {
			due = time.Now().Add(retryAfter)
			if !failing {
				g.cfg.Logger.Warn("could not look into all mailboxes of live sockets; tried again every second",
					"component", "gateway", "error", err)
			}
		}
		failing = err != nil
	}
}

// Poll looks at the sessions and mailboxes of all sockets once: at the sessions first, since the
// mailboxes may have to be waited for. It returns an error when it does not know of all.
func (g *Gateway) Poll(ctx context.Context) error {
	sessions := g.snapshot()
	for some := range slices.Chunk(sessions, pollStep) {
		if err := g.pollSessions(ctx, some); err != nil {
			return err
		}
	}
	var missed error
	for some := range slices.Chunk(sessions, pollStep) {
		known, err := g.pollMailboxes(ctx, some)
		if err != nil && !known {
			return err
		}
		if err != nil {
			missed = err
		}
	}
	return missed
}

func (g *Gateway) snapshot() []*session {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return slices.AppendSeq(make([]*session, 0, len(g.sessions)), maps.Values(g.sessions))
}

// pollSessions closes the sockets whose session has ended.
func (g *Gateway) pollSessions(ctx context.Context, sessions []*session) error {
	ids := make([]core.SessionID, len(sessions))
	for i, s := range sessions {
		ids[i] = s.id
	}
	ctx, cancel := context.WithTimeout(ctx, queryWithin) // a database that does not answer must not end the poll
	defer cancel()
	live, err := g.cfg.Sessions.LiveSessions(ctx, ids)
	if err != nil {
		return err
	}
	alive := make(map[uuid.UUID]bool, len(live))
	for _, id := range live {
		alive[id] = true
	}
	for _, s := range sessions {
		if !alive[s.id] {
			s.close(closeRevoked)
		}
	}
	return nil
}

// pollMailboxes finds mail, and closes sockets that are displaced or whose device is gone. known:
// it knows of some of the mailboxes at least.
func (g *Gateway) pollMailboxes(ctx context.Context, sessions []*session) (known bool, _ error) {
	byDevice := make(map[core.DeviceID]*session, len(sessions))
	devices := make([]core.DeviceID, len(sessions))
	for i, s := range sessions {
		byDevice[s.device] = s
		devices[i] = s.device
	}
	ctx, cancel := context.WithTimeout(ctx, queryWithin)
	defer cancel()
	heads, err := g.cfg.Mailbox.Heads(ctx, devices, false)
	if err != nil && heads == nil {
		return false, err
	}
	for _, h := range heads {
		s := byDevice[h.Device]
		delete(byDevice, h.Device)
		switch {
		case h.Generation > s.generation && h.TakenOver:
			s.close(closeRevoked)
		case h.Generation > s.generation:
			s.close(closeDisplaced)
		case h.Last > s.delivery.cursor.Load():
			s.delivery.known.Store(max(s.delivery.known.Load(), h.Last))
			s.kick(doMail)
		}
	}
	for _, s := range byDevice { // without a mailbox: the device is gone
		s.close(closeRevoked)
	}
	return true, err
}

// LookAtAll has all mailboxes and sessions looked at, soon: after notices may have been missed.
func (g *Gateway) LookAtAll() {
	select {
	case g.look <- struct{}{}:
	default:
	}
}

// tidyAfter is how long no more sockets must have come before the garbage of their handshakes,
// which is about as much as what idle ones keep, is given back: while they idle nothing else would
// collect it.
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
