package gateway

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/core/mailbox"
)

const (
	// readLimit is the largest inbound message, in bytes.
	readLimit = 64 << 10
	// queryWithin bounds a question of the pump, or one of the poll, to a database that does not answer. A
	// ping may wait behind it, and the client is given up pongWithin after the ping was due.
	queryWithin = 5 * time.Second
	// retryAfter is when something that met a failing database is tried again.
	retryAfter = time.Second
)

// What a session has to do, as bits, the most urgent first.
const (
	doClose uint8 = 1 << iota
	doPong
	doPing
	doVerify // that the session still exists
	doStatus
	doGaps  // tell of what was dropped after it was sent
	doFresh // send what was offered, from memory if it is next in line
	doMail  // read the mailbox
)

// session is one live socket. The goroutine of the handler reads; whatever is to be written is done by
// one further goroutine, the pump, which exists only while there is something to do.
type session struct {
	gateway    *Gateway
	socket     socket
	principal  core.Principal
	ids        mailbox.IDs
	generation int64
	ctx        context.Context // ends with the session
	ping       *time.Timer
	retry      *time.Timer

	// known is a sequence up to which everything was committed; cursor is what has been dealt with.
	known, cursor atomic.Int64

	pace pace // owned by the reader

	// owned by the pump
	delivery delivery

	pump sync.WaitGroup

	mu   sync.Mutex
	todo uint8 // guarded by mu
	// postponed is done again when retry fires; guarded by mu.
	postponed uint8
	running   bool       // guarded by mu: the pump exists
	finished  bool       // guarded by mu: nothing may be written any more
	writing   bool       // guarded by mu: the pump is in a write
	code      int        // guarded by mu: to close with
	pinged    *string    // guarded by mu: the client's newest ping that was not answered
	reported  []reported // guarded by mu: gaps sent and not forgotten, in order
	sinceLook int        // guarded by mu: acknowledgements since the gaps were looked at
	window    window     // guarded by mu
	// fresh is what was offered and not taken, in order; guarded by mu.
	fresh      []core.Envelope
	freshBytes int
}

// serve runs a session to its end. When it returns no goroutine holds the socket.
func (g *Gateway) serve(c socket, h accepted) {
	ctx, cancel := context.WithCancel(g.ctx)
	defer cancel()
	s := &session{gateway: g, socket: c, principal: h.principal, ids: mailbox.IDsOf(h.principal.Device),
		generation: h.opened.Generation, ctx: ctx}
	s.known.Store(h.opened.Last)
	s.cursor.Store(h.opened.Floor)
	s.delivery.drainTo = h.opened.Last
	s.ping = time.AfterFunc(pingEvery, func() { s.kick(doPing) })
	s.retry = time.AfterFunc(time.Hour, s.resume)
	s.retry.Stop()
	if code, ok := g.register(s); !ok {
		s.ping.Stop()
		_ = c.WriteControl(closeMessage, closePayload(code), time.Now().Add(goodbye))
		return
	}
	g.cfg.Counters.SocketOpened()
	defer g.cfg.Counters.SocketClosed()
	defer g.unregister(s)
	defer s.passMailOn()
	defer s.countSkipped()
	defer s.end(cancel)
	g.cfg.Announce(core.Notice{Kind: core.NoticeDisplaced, Generation: s.generation, IDs: []core.DeviceID{s.principal.Device}})
	s.kick(doStatus | doVerify | doMail)
	s.read()
}

// countSkipped has counted, once, what the client passed over on this socket.
func (s *session) countSkipped() {
	s.mu.Lock()
	skipped := s.window.skipped()
	s.mu.Unlock()
	if len(skipped) > 0 {
		s.gateway.cfg.Mailbox.PassedOver(s.principal.Device, skipped)
	}
}

// passMailOn tells the newer socket, perhaps on another node, of mail that was offered to this one.
func (s *session) passMailOn() {
	s.mu.Lock()
	displaced := s.code == closeDisplaced
	s.mu.Unlock()
	if displaced {
		s.gateway.cfg.Announce(core.Notice{Kind: core.NoticeMail, IDs: []core.DeviceID{s.principal.Device}})
	}
}

// end stops the pump and waits for it.
func (s *session) end(cancel context.CancelFunc) {
	s.mu.Lock()
	s.finished = true
	running := s.running
	s.mu.Unlock()
	s.ping.Stop()
	s.retry.Stop()
	cancel()
	if !running {
		return
	}
	ended := make(chan struct{})
	go func() { s.pump.Wait(); close(ended) }()
	for {
		s.socket.interrupt() // again, since a write that is just beginning sets its own deadline
		select {
		case <-ended:
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// read handles what the client sends until the socket ends.
func (s *session) read() {
	s.socket.SetReadLimit(readLimit)
	s.socket.meter(func(bytes int) { s.breathe(0, bytes) })
	s.stayAlive(pingEvery + pongWithin)
	s.socket.SetPongHandler(func(payload string) error {
		s.hear()
		return nil
	})
	s.socket.SetPingHandler(func(payload string) error {
		s.hear()
		s.mu.Lock()
		defer s.mu.Unlock()
		s.pinged = &payload
		s.start(doPong)
		return nil
	})
	for {
		kind, data, err := s.socket.ReadMessage()
		if err != nil {
			return
		}
		if s.isFinished() {
			continue // the close has been sent: wait for the answer
		}
		s.hear()
		if kind != binaryMessage || s.frame(data) != nil {
			s.close(closePolicy)
		}
	}
}

// hear takes a frame of any kind for a sign of life.
func (s *session) hear() {
	s.breathe(1, 0)
	s.stayAlive(pingEvery + pongWithin)
}

func (s *session) isFinished() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.finished
}

// frame handles one inbound frame. Only acknowledgements are sent by clients.
func (s *session) frame(data []byte) error {
	acknowledged, err := decodeAck(s.ids, data)
	if err != nil {
		return err
	}
	sequences, gaps := s.settled(acknowledged)
	if len(sequences) == 0 {
		return nil
	}
	if err := s.gateway.cfg.Mailbox.Acknowledge(s.principal.Device, sequences, gaps); err != nil {
		s.close(closeGoingAway) // nothing was taken: the envelopes will be sent again, on another socket
	}
	return nil
}

// settled sorts out which acknowledged sequences are to be deleted, and takes out the reported gaps
// that are followed by one of them.
func (s *session) settled(acknowledged []int64) (sequences []int64, gaps []core.Gap) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sequences = s.window.settle(acknowledged, s.cursor.Load(), s.delivery.drainTo)
	if len(sequences) == 0 {
		return nil, nil
	}
	if s.writing {
		s.socket.writeBy(time.Now().Add(writeWithin)) // what it acknowledges has come through
	}
	if s.window.stalled {
		s.window.stalled = false
		s.start(doMail)
	}
	if s.sinceLook += len(sequences); s.sinceLook >= lateGapsEvery {
		s.sinceLook = 0
		s.start(doGaps)
	}
	return sequences, s.passed(slices.Max(sequences))
}

// kick asks for something to be done and starts the pump if it is not running.
func (s *session) kick(todo uint8) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.start(todo)
}

// start is kick for those who hold the lock.
func (s *session) start(todo uint8) {
	if s.finished {
		return
	}
	s.todo |= todo
	if !s.running {
		s.running = true
		s.pump.Go(s.work)
	}
}

// close asks for the socket to be closed with a code; the first one wins. A write in progress is given a
// moment.
func (s *session) close(code int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.code == 0 {
		s.code = code
		time.AfterFunc(goodbye, s.breakOff)
	}
	s.start(doClose)
}

// breakOff ends a write that does not let a close through.
func (s *session) breakOff() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.writing {
		s.socket.interrupt()
	}
}
