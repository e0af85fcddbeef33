package gateway

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/core/keys"
	"github.com/obscura-relay/obscura/internal/core/mailbox"
)

// beginWithin is how long a socket waits to be looked at together with others. Then it asks by
// itself: a database that does not answer, or a crowd, holds up nobody for longer.
const beginWithin = time.Second / 2

// beginning is how a socket begins: with what it learns once it is registered, so that whatever
// happens later reaches it. It begins once, by whoever sets begun first. Until then the agenda
// holds back what is told, so that nobody whose session has ended is sent mail.
type beginning struct {
	begun atomic.Bool
	late  *time.Timer // has it begin by itself
	found *found      // set before doBegin; owned by the pump then
}

// found is what was found about a socket, and what of it is known.
type found struct {
	head       mailbox.Head
	keys       keys.Count
	mailbox    bool // the head is known
	counted    bool // the keys are
	registered bool // the session exists
}

// lookAt has a session looked at together with others that begin.
func (g *Gateway) lookAt(s *session) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case !g.looking:
		g.looking, g.looked = true, time.Now()
		g.served.Go(g.lookAtNewcomers)
	case time.Since(g.looked) > beginWithin: // the database is slow
		s.beginAlone()
		return
	}
	g.newcomers = append(g.newcomers, s)
}

// beginAlone has a session ask everything by itself, unless it has begun.
func (s *session) beginAlone() {
	if s.beginning.begun.CompareAndSwap(false, true) {
		s.agenda.release()
		s.kick(doVerify | doStatus | doMail)
	}
}

func (g *Gateway) lookAtNewcomers() {
	for some := g.takeNewcomers(); len(some) > 0; some = g.takeNewcomers() {
		all := g.lookAtSome(some)
		for i, s := range some {
			if s.beginning.begun.CompareAndSwap(false, true) {
				s.beginning.late.Stop()
				s.beginning.found = &all[i]
				s.kick(doBegin)
			}
		}
	}
}

// takeNewcomers takes those that are next. Without any nobody looks any more.
func (g *Gateway) takeNewcomers() []*session {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.newcomers = slices.DeleteFunc(g.newcomers, func(s *session) bool { return s.beginning.begun.Load() })
	some := g.newcomers[:min(len(g.newcomers), pollStep)]
	if g.newcomers = g.newcomers[len(some):]; len(g.newcomers) == 0 {
		g.newcomers = nil
	}
	g.looking, g.looked = len(some) > 0, time.Now()
	return some
}

// lookAtSome puts three questions at once. One that fails does not break off the others: see
// session.ask. It closes the sockets whose session ended, or that a newer one followed, before they
// were registered and could be told.
func (g *Gateway) lookAtSome(sessions []*session) []found {
	ctx, cancel := context.WithTimeout(g.ctx, queryWithin)
	defer cancel()
	devices := make([]core.DeviceID, len(sessions))
	for i, s := range sessions {
		devices[i] = s.device
	}
	all := make([]found, len(sessions))
	var asking errgroup.Group
	asking.Go(g.survived(func() error {
		some, err := g.cfg.Mailbox.Heads(ctx, devices, true)
		heads := make(map[core.DeviceID]mailbox.Head, len(some))
		for _, head := range some {
			heads[head.Device] = head
		}
		for i, device := range devices {
			all[i].head = heads[device]
			all[i].mailbox = all[i].head.Generation > 0 // a bucket that is unavailable has zeros
		}
		return err
	}))
	asking.Go(g.survived(func() error {
		counts, err := g.cfg.Keys.Counts(ctx, devices...)
		for i, device := range devices {
			all[i].keys, all[i].counted = counts[device]
			all[i].counted = all[i].counted || err == nil // it is gone
		}
		return err
	}))
	asking.Go(g.survived(func() error {
		err := g.pollSessions(ctx, sessions)
		for i := range all {
			all[i].registered = err == nil // or it is being closed
		}
		return err
	}))
	err := asking.Wait() // each session asks again what is not known
	if err != nil && !g.unsure {
		g.cfg.Logger.Warn("could not look at new sockets together; each asks by itself", "component", "gateway",
			"error", err)
	}
	g.unsure = err != nil
	for i, s := range sessions {
		switch head := &all[i].head; {
		case head.Generation <= s.generation:
		case head.TakenOver:
			s.close(closeRevoked)
		default:
			s.close(closeDisplaced)
		}
	}
	return all
}

// survived makes nothing of a panic but a line in the log.
func (g *Gateway) survived(question func() error) func() error {
	return func() error {
		defer func() {
			if r := recover(); r != nil {
				g.cfg.Logger.Error("a question about new sockets panicked; each asks by itself", "component", "gateway",
					"error", fmt.Sprintf("panic: %v\n%s", r, debug.Stack()))
			}
		}()
		return question()
	}
}

// begin does what is known to be done, and has asked what is not known.
func (s *session) begin() error {
	f := s.beginning.found
	s.beginning.found = nil // it holds all that was found at once
	s.agenda.release()
	if !f.registered {
		s.kick(doVerify)
	}
	if !f.counted {
		s.kick(doStatus | doMail)
		return nil
	}
	if err := s.sendStatus(f.keys); err != nil {
		return err
	}
	if !f.mailbox || f.head.Gaps || !s.delivery.beginEmpty(f.head.Last) {
		s.kick(doMail)
		return nil
	}
	return s.delivery.sendDrained()
}
