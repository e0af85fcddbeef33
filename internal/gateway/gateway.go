// Package gateway delivers mail to devices over WebSockets.
//
// Invariants: a device has one live socket, the one with the highest generation; envelopes are sent
// in the order of their sequence, at least once, and stay until they are acknowledged; a socket has
// one writer, every write has a deadline, and every goroutine that touches a socket ends before its
// handler returns, because the library gives the connection to another client afterwards. A slow
// reader holds back its own deliveries only and costs less than 1 MiB; at 2 KB/s it is served. When
// the database fails or does not answer, sockets stay, are pinged, and deliver when it is back. A
// panic ends one session.
package gateway

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/core/keys"
	"github.com/obscura-relay/obscura/internal/core/mailbox"
)

// Counters is what a Gateway counts.
type Counters interface {
	SocketOpened()
	SocketClosed()
	// Delivered counts envelopes written to a socket.
	Delivered(n int)
}

// Mailbox is what a Gateway needs of the mailboxes: a mailbox.Service, or a fake one that fails as
// a test wants it.
type Mailbox interface {
	Open(context.Context, core.Principal) (mailbox.Opened, error)
	Read(ctx context.Context, device core.DeviceID, after int64) (mailbox.Page, error)
	Gaps(ctx context.Context, device core.DeviceID, after, last int64) (gaps []core.Gap, more bool, err error)
	Acknowledge(device core.DeviceID, sequences []int64, reported []core.Gap) error
	PassedOver(device core.DeviceID, sequences []int64)
	Heads(ctx context.Context, devices []core.DeviceID, gaps bool) ([]mailbox.Head, error)
}

// Config is what a Gateway needs.
type Config struct {
	Mailbox Mailbox
	// Keys counts the one-time keys of devices that are left.
	Keys interface {
		Counts(context.Context, ...core.DeviceID) (map[core.DeviceID]keys.Count, error)
	}
	// Sessions returns which sessions still exist.
	Sessions interface {
		LiveSessions(context.Context, []core.SessionID) ([]core.SessionID, error)
	}
	// Node is what the gateway stands in.
	Node interface {
		core.Announcer
		// Left is told of a device whose last socket here has ended.
		Left(core.DeviceID)
		// Silence returns how long ago it was certain that this node had heard of every revocation.
		Silence() time.Duration
	}
	// PollInterval is how often mailboxes are looked at in case a notice was lost; it is jittered
	// by a tenth.
	PollInterval time.Duration
	Counters     Counters
	Logger       *slog.Logger
}

// Gateway is this node's sockets. Make it with New; its Run polls.
type Gateway struct {
	cfg     Config
	upgrade fiber.Handler
	ctx     context.Context // ends when sessions must
	cancel  context.CancelFunc
	served  sync.WaitGroup // sessions in serve, their questions, and whoever looks at newcomers
	tidied  tidy           // owned by Run
	look    chan struct{}  // holds one token when the next poll is to be made at once

	mu       sync.RWMutex
	sessions map[core.DeviceID]*session // guarded by mu
	closing  atomic.Bool                // set under mu

	newcomers []*session // guarded by mu: that wait to be looked at
	looking   bool       // guarded by mu: somebody looks at newcomers,
	looked    time.Time  // guarded by mu: and has looked at some of them since then
	unsure    bool       // owned by whoever looks: the last questions failed
}

// New makes a Gateway.
func New(cfg Config) *Gateway {
	g := &Gateway{cfg: cfg, sessions: map[core.DeviceID]*session{}, look: make(chan struct{}, 1)}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	g.upgrade = g.upgrader()
	return g
}

// register makes a session the device's live one. It returns false, and the code to close with,
// when a newer one is there already or the gateway is closing.
func (g *Gateway) register(s *session) (code int, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closing.Load() {
		return closeGoingAway, false
	}
	if old := g.sessions[s.device]; old != nil {
		if old.generation > s.generation {
			return closeDisplaced, false
		}
		old.close(closeDisplaced)
	}
	g.sessions[s.device] = s
	g.served.Add(1)
	return 0, true
}

func (g *Gateway) unregister(s *session) {
	g.mu.Lock()
	left := g.sessions[s.device] == s
	if left {
		delete(g.sessions, s.device)
	}
	g.mu.Unlock()
	if left {
		g.cfg.Node.Left(s.device)
	}
	g.served.Done()
}

// Live reports whether a device has a live socket here.
func (g *Gateway) Live(device core.DeviceID) bool {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.sessions[device] != nil
}

// Deliver tells the sockets of this node what happened and returns the notice for the devices that
// have no socket here.
func (g *Gateway) Deliver(n core.Notice) core.Notice {
	elsewhere := core.Notice{Kind: n.Kind, Generation: n.Generation}
	if n.Kind == core.NoticeEnded {
		g.closeSessions(n.IDs)
		return elsewhere
	}
	g.mu.RLock()
	defer g.mu.RUnlock()
	for _, device := range n.IDs {
		s := g.sessions[device]
		switch {
		case s == nil:
			elsewhere.IDs = append(elsewhere.IDs, device)
		case n.Kind == core.NoticeMail:
			if !s.kick(doMail) { // it is closing, perhaps for a newer socket on another node
				elsewhere.IDs = append(elsewhere.IDs, device)
			}
		case n.Kind == core.NoticeKeys:
			s.kick(doStatus)
		case s.generation >= n.Generation: // not older than what happened
		case n.Kind == core.NoticeRevoked:
			s.close(closeRevoked)
		case n.Kind == core.NoticeDisplaced:
			s.close(closeDisplaced)
		}
	}
	return elsewhere
}

// Offer gives committed envelopes of a device, in order, to its socket, and reports false when the
// device has none here.
func (g *Gateway) Offer(device core.DeviceID, envelopes []core.Envelope) bool {
	g.mu.RLock()
	defer g.mu.RUnlock()
	s := g.sessions[device]
	return s != nil && s.offer(envelopes)
}

// closeSessions closes the sockets of ended sessions.
func (g *Gateway) closeSessions(ids []core.SessionID) {
	if len(ids) == 0 {
		return
	}
	ended := make(map[uuid.UUID]bool, len(ids))
	for _, id := range ids {
		ended[id] = true
	}
	g.mu.RLock()
	defer g.mu.RUnlock()
	for _, s := range g.sessions {
		if ended[s.id] {
			s.close(closeRevoked)
		}
	}
}

// CloseSome closes a share of the sockets with 1012, rounded up or down by chance.
func (g *Gateway) CloseSome(share float64) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	some := int(share*float64(len(g.sessions)) + rand.Float64())
	for _, s := range g.sessions { // in no order
		if some--; some < 0 {
			return
		}
		s.close(closeRestart)
	}
}

// Shutdown closes every socket with 1001 and waits until all have ended; when ctx ends first it
// cuts them off.
func (g *Gateway) Shutdown(ctx context.Context) {
	g.mu.Lock()
	g.closing.Store(true)
	for _, s := range g.sessions {
		s.close(closeGoingAway)
	}
	g.mu.Unlock()
	done := make(chan struct{})
	go func() { g.served.Wait(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
		g.mu.RLock()
		for _, s := range g.sessions {
			s.connection.socket.interrupt() // the handler does not return before it is unregistered
		}
		g.mu.RUnlock()
		g.cancel()
		<-done
	}
	g.cancel()
}
