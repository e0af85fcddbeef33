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
	"github.com/obscura-relay/obscura/internal/core/mailbox"
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
				g.cfg.Logger.Warn("could not look into the mailboxes of live sockets; tried again every second",
					"component", "gateway", "error", err)
			}
		}
		failing = err != nil
	}
}

// Poll looks at the mailboxes of all sockets once.
func (g *Gateway) Poll(ctx context.Context) error {
	for some := range slices.Chunk(g.snapshot(), pollStep) {
		if err := g.pollSome(ctx, some); err != nil {
			return err
		}
	}
	return nil
}

func (g *Gateway) snapshot() []*session {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return slices.AppendSeq(make([]*session, 0, len(g.sessions)), maps.Values(g.sessions))
}

func (g *Gateway) pollSome(ctx context.Context, sessions []*session) error {
	byDevice := make(map[core.DeviceID]*session, len(sessions))
	var devices []core.DeviceID
	var ids []core.SessionID
	for _, s := range sessions {
		byDevice[s.device] = s
		devices = append(devices, s.device)
		ids = append(ids, s.id)
	}
	heads, live, err := g.ask(ctx, devices, ids)
	if err != nil {
		return err
	}
	alive := make(map[uuid.UUID]bool, len(live))
	for _, id := range live {
		alive[id] = true
	}
	for _, h := range heads {
		s := byDevice[h.Device]
		delete(byDevice, h.Device)
		switch {
		case !alive[s.id]:
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
	return nil
}

// ask bounds each question: a database that does not answer must not end the poll.
func (g *Gateway) ask(ctx context.Context, devices []core.DeviceID, ids []core.SessionID) ([]mailbox.Head,
	[]core.SessionID, error) {
	asking, cancel := context.WithTimeout(ctx, queryWithin)
	defer cancel()
	heads, err := g.cfg.Mailbox.Heads(asking, devices)
	if err != nil {
		return nil, nil, err
	}
	asking, cancel = context.WithTimeout(ctx, queryWithin)
	defer cancel()
	live, err := g.cfg.Sessions.LiveSessions(asking, ids)
	return heads, live, err
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
