package gateway

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/internal/core"
)

// pollStep is how many mailboxes one query of the poll looks at.
const pollStep = 500

// deafPoll is how often a node polls that may not hear of revocations: sockets must not outlive theirs
// by more than a second.
const deafPoll = 500 * time.Millisecond

// Run looks at the mailboxes of all sockets from time to time, until ctx ends: the net under the
// wake-ups. It finds mail, displaced and revoked sockets whose notice was lost.
func (g *Gateway) Run(ctx context.Context) error {
	ticker := time.NewTicker(deafPoll)
	defer ticker.Stop()
	for due := time.Now(); ; {
		select {
		case <-ctx.Done():
			return nil
		case now := <-ticker.C:
			g.tidy(now)
			if now.Before(due) && g.cfg.Fresh() {
				continue
			}
			jitter := rand.N(g.cfg.PollInterval/5) - g.cfg.PollInterval/10
			due = now.Add(g.cfg.PollInterval + jitter)
		}
		if err := g.Poll(ctx); err != nil && ctx.Err() == nil {
			g.cfg.Logger.Warn("the poll of mailboxes failed", "error", err)
		}
	}
}

// Poll looks at the mailboxes of all sockets once.
func (g *Gateway) Poll(ctx context.Context) error {
	all := g.snapshot()
	for len(all) > 0 {
		n := min(len(all), pollStep)
		if err := g.pollSome(ctx, all[:n]); err != nil {
			return err
		}
		all = all[n:]
	}
	return nil
}

func (g *Gateway) snapshot() []*session {
	g.mu.RLock()
	defer g.mu.RUnlock()
	all := make([]*session, 0, len(g.sessions))
	for _, s := range g.sessions {
		all = append(all, s)
	}
	return all
}

func (g *Gateway) pollSome(ctx context.Context, sessions []*session) error {
	byDevice := make(map[core.DeviceID]*session, len(sessions))
	var devices []core.DeviceID
	var ids []core.SessionID
	for _, s := range sessions {
		byDevice[s.principal.Device] = s
		devices = append(devices, s.principal.Device)
		ids = append(ids, s.principal.Session)
	}
	heads, err := g.cfg.Mailbox.Heads(ctx, devices)
	if err != nil {
		return err
	}
	live, err := g.cfg.LiveSessions(ctx, ids)
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
		case !alive[s.principal.Session]:
			s.close(closeRevoked)
		case h.Generation > s.generation:
			s.close(closeDisplaced)
		case h.Last > s.cursor.Load():
			s.known.Store(max(s.known.Load(), h.Last))
			s.kick(doMail)
		}
	}
	for _, s := range byDevice { // without a mailbox: the device is gone
		s.close(closeRevoked)
	}
	return nil
}

// WakeAll makes every session look at its mailbox: after notices may have been missed.
func (g *Gateway) WakeAll() {
	for _, s := range g.snapshot() {
		s.kick(doMail | doVerify)
	}
}
