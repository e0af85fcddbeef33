package gateway

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/obscura-relay/obscura/internal/batch"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/core/keys"
	"github.com/obscura-relay/obscura/internal/core/mailbox"
)

// beginLimits bound the sockets that are looked at together when they begin.
var beginLimits = batch.Limits{BatchItems: 64, BatchWeight: 64, QueueItems: 1 << 16, QueueWeight: 1 << 16}

// beginning is what a socket learns once it is registered, so that whatever happens later reaches
// it.
type beginning struct {
	revoked bool // the session has ended, or the device is gone
	mailbox mailbox.Head
	keys    keys.Count
}

// lookAtNew asks for many sockets at once.
func (g *Gateway) lookAtNew(ctx context.Context, sessions []*session) ([]beginning, error) {
	ctx, cancel := context.WithTimeout(ctx, queryWithin)
	defer cancel()
	devices, ids := make([]core.DeviceID, len(sessions)), make([]core.SessionID, len(sessions))
	for i, s := range sessions {
		devices[i], ids[i] = s.device, s.id
	}
	var (
		heads  []mailbox.Head
		live   []core.SessionID
		counts map[core.DeviceID]keys.Count
	)
	var asking errgroup.Group // one that fails does not break off the others: see session.ask
	asking.Go(survived(func() (err error) { heads, err = g.cfg.Mailbox.Heads(ctx, devices); return err }))
	asking.Go(survived(func() (err error) { live, err = g.cfg.Sessions.LiveSessions(ctx, ids); return err }))
	asking.Go(survived(func() (err error) { counts, err = g.cfg.Keys.Counts(ctx, devices...); return err }))
	if err := asking.Wait(); err != nil {
		return nil, err
	}
	found := make([]beginning, len(sessions))
	for i, s := range sessions {
		at := slices.IndexFunc(heads, func(h mailbox.Head) bool { return h.Device == s.device })
		if found[i].revoked = at < 0 || !slices.Contains(live, s.id); !found[i].revoked {
			found[i].mailbox, found[i].keys = heads[at], counts[s.device]
		}
	}
	return found, nil
}

// bug is what a question panicked with, and where.
type bug struct{ error }

// survived makes an error of a panic: the question may be one for many sessions.
func survived(question func() error) func() error {
	return func() (err error) {
		defer func() {
			if r := recover(); r != nil {
				err = bug{fmt.Errorf("%v\n%s", r, debug.Stack())}
			}
		}()
		return question()
	}
}

// lookAlone is for a session that failed with others: what failed may be theirs. A bug ends it.
func (s *session) lookAlone(ctx context.Context) (beginning, error) {
	found, err := s.gateway.lookAtNew(ctx, []*session{s})
	if found := (bug{}); errors.As(err, &found) {
		panic(found)
	}
	if err != nil {
		return beginning{}, err
	}
	return found[0], nil
}

// begin closes the socket when its session ended, or a newer socket opened, before it was
// registered and could be told. Otherwise it tells the device how many one-time keys are left, and
// has the mailbox read unless nothing is in it.
func (s *session) begin() error {
	var found beginning
	err := s.ask(func(ctx context.Context) (err error) {
		found, err = s.gateway.begun.Do(ctx, s, 1)
		unknown := !found.revoked && found.mailbox.Generation == 0 // a socket has opened it, so it has one
		if (err != nil || unknown) && ctx.Err() == nil {
			found, err = s.lookAlone(ctx)
		}
		return err
	})
	switch {
	case err != nil:
		return err
	case found.revoked:
		s.close(closeRevoked)
		return nil
	case found.mailbox.Generation > s.generation:
		s.close(closeDisplaced)
		return nil
	}
	if err := s.sendStatus(found.keys); err != nil {
		return err
	}
	if found.mailbox.Gaps || !s.delivery.beginEmpty(found.mailbox.Last) {
		s.kick(doMail)
		return nil
	}
	return s.delivery.sendDrained()
}
