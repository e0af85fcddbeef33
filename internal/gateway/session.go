package gateway

import (
	"context"
	"errors"
	"time"

	"github.com/obscura-relay/obscura/gen/obscurapb"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/core/keys"
)

// queryWithin bounds a question of the pump, or one of the poll, to a database that does not
// answer. A ping may wait behind it, and the client is given up pongWithin after the ping was due.
const queryWithin = 5 * time.Second

// session is one live socket: a connection, an agenda and a delivery. The goroutine of the handler
// reads; whatever is to be written is done by one further goroutine, the pump.
type session struct {
	gateway    *Gateway
	device     core.DeviceID
	id         core.SessionID
	generation int64
	pings      *time.Timer
	beginning  beginning

	connection connection
	agenda     agenda
	delivery   delivery
}

// serve runs a session to its end. When it returns no goroutine holds the socket.
func (g *Gateway) serve(c socket, h accepted) {
	ctx, cancel := context.WithCancel(g.ctx)
	defer cancel()
	s := &session{gateway: g, device: h.principal.Device, id: h.principal.Session, generation: h.opened.Generation}
	s.agenda.held = doStatus | doGaps | doFresh | doMail // until it has begun
	s.delivery.begin(g.cfg.Mailbox, s, s.device, h.opened)
	s.connection.socket, s.connection.ctx, s.connection.unacknowledged = c, ctx, &s.delivery.window.bytes
	if code, ok := g.register(s); !ok {
		_ = c.WriteControl(closeMessage, closePayload(code), time.Now().Add(goodbye))
		return
	}
	s.pings = time.AfterFunc(pingEvery, func() { s.kick(doPing) })
	s.beginning.late = time.AfterFunc(beginWithin, s.beginAlone)
	g.cfg.Counters.SocketOpened()
	defer g.cfg.Counters.SocketClosed()
	defer g.unregister(s)
	defer s.end(cancel)
	g.cfg.Node.Announce(core.Notice{Kind: core.NoticeDisplaced, Generation: s.generation,
		IDs: []core.DeviceID{s.device}})
	g.lookAt(s)
	s.read()
}

// end stops the pump and waits for it. Then nobody else has the connection and the window.
func (s *session) end(cancel context.CancelFunc) {
	ended := s.agenda.stop()
	s.pings.Stop()
	s.beginning.begun.Store(true)
	s.beginning.late.Stop()
	cancel()
	for waiting := ended != nil; waiting; {
		s.connection.socket.interrupt() // again, since a write that is just beginning sets its own deadline
		select {
		case <-ended:
			waiting = false
		case <-time.After(20 * time.Millisecond):
		}
	}
	if skipped := s.delivery.window.skipped(); len(skipped) > 0 { // counted once, for the whole socket
		s.gateway.cfg.Mailbox.PassedOver(s.device, skipped)
	}
	// the newer socket, perhaps on another node, hears of what was offered to this one
	if s.connection.finish() == closeDisplaced {
		s.gateway.cfg.Node.Announce(core.Notice{Kind: core.NoticeMail, IDs: []core.DeviceID{s.device}})
	}
}

// read handles what the client sends until the socket ends.
func (s *session) read() {
	s.connection.open(func() { s.kick(doPong) })
	for {
		kind, data, err := s.connection.read()
		if err != nil {
			return
		}
		if kind != binaryMessage || s.acknowledge(data) != nil {
			s.close(closePolicy)
		}
	}
}

// acknowledge handles one inbound frame. Only acknowledgements are sent by clients.
func (s *session) acknowledge(data []byte) error {
	acknowledged, err := decodeAck(s.delivery.ids, data)
	if err != nil {
		return err
	}
	sequences, gaps, todo := s.delivery.settle(acknowledged)
	if len(sequences) == 0 {
		return nil
	}
	// what it acknowledges has come through
	s.connection.inWrite(func() { s.connection.socket.writeBy(time.Now().Add(writeWithin)) })
	if todo != 0 {
		s.kick(todo)
	}
	if err := s.gateway.cfg.Mailbox.Acknowledge(s.device, sequences, gaps); err != nil {
		s.close(closeGoingAway) // nothing was taken: the envelopes will be sent again, on another socket
	}
	return nil
}

// offer gives committed envelopes to the delivery. It reports false when the session is finished.
func (s *session) offer(envelopes []core.Envelope) bool { return s.kick(s.delivery.offer(envelopes)) }

// kick asks for something to be done and starts the pump if it is not running. It reports false
// when nothing more will be done.
func (s *session) kick(todo steps) bool {
	start, ok := s.agenda.add(todo)
	if start {
		go s.pump()
	}
	return ok
}

// close asks for the socket to be closed with a code; the first one wins.
func (s *session) close(code int) {
	s.connection.closeWith(code, func() { s.kick(doClose) })
}

// pump does what is to be done, the most urgent first, and ends when nothing is.
func (s *session) pump() {
	for step := s.agenda.next(); step != 0; step = s.agenda.next() {
		s.perform(step)
	}
}

// perform survives a panic, as handlers of requests do: it costs this session and nobody else's.
func (s *session) perform(step steps) {
	defer s.survive()
	switch err := s.do(step); {
	case errors.Is(err, errYield):
		s.kick(step)
	case errors.Is(err, errLater):
		s.agenda.postpone(step, func() { s.kick(s.agenda.due()) })
	case err != nil:
		s.agenda.stop()
		s.connection.cutOff()
	}
}

func (s *session) survive() {
	if r := recover(); r != nil {
		s.gateway.panicked(r)
		s.close(closeInternal)
	}
}

// do takes one step. An error that is neither errYield nor errLater means that the socket is
// broken.
func (s *session) do(step steps) error {
	switch step {
	case doClose:
		s.connection.sayGoodbye()
		return nil
	case doPong:
		return s.connection.answer()
	case doPing:
		err := s.connection.ping()
		if err == nil {
			s.pings.Reset(pingEvery)
		}
		return err
	case doBegin:
		return s.begin()
	case doVerify:
		return s.verify()
	case doStatus:
		return s.askStatus()
	case doGaps:
		return s.delivery.sendLateGaps()
	case doFresh:
		inLine, err := s.delivery.deliverFresh()
		if !inLine {
			s.kick(doMail)
		}
		return err
	default:
		return s.delivery.deliver()
	}
}

// ask lets the pump put one question to the database, which may not answer for as long as it likes:
// pings must not wait for it. A close and the end of the socket do not wait for the answer. They do
// not break the question off: that would end the connection to the database, and a new one costs
// more than all else that a socket asks. So a question may outlive its session.
func (s *session) ask(question func(context.Context) error) error {
	answer := make(chan error, 1)
	s.agenda.await(answer)
	defer s.agenda.await(nil)
	s.gateway.served.Go(func() {
		err := errLater
		defer func() { tell(answer, err) }()
		defer s.survive()
		ctx, cancel := context.WithTimeout(s.gateway.ctx, queryWithin)
		defer cancel()
		if question(ctx) == nil {
			err = nil
		}
	})
	if err := <-answer; err != nil {
		return err
	}
	return s.agenda.yield()
}

// send sends a frame. Behind envelopes it answers the client's ping, and lets what is more urgent
// come.
func (s *session) send(frame *obscurapb.WebSocketFrame, envelopes int) error {
	err := s.connection.send(frame)
	if err != nil || envelopes == 0 {
		return err
	}
	s.gateway.cfg.Counters.Delivered(envelopes)
	if err := s.connection.answer(); err != nil {
		return err
	}
	return s.agenda.yield()
}

// verify closes the socket when its session ended before the socket was registered and could be
// told.
func (s *session) verify() error {
	return s.ask(func(ctx context.Context) error {
		live, err := s.gateway.cfg.Sessions.LiveSessions(ctx, []core.SessionID{s.id})
		if err == nil && len(live) == 0 {
			s.close(closeRevoked)
		}
		return err
	})
}

// askStatus asks how many one-time keys are left, and tells the device.
func (s *session) askStatus() error {
	var counts map[core.DeviceID]keys.Count
	err := s.ask(func(ctx context.Context) (err error) {
		counts, err = s.gateway.cfg.Keys.Counts(ctx, s.device)
		return err
	})
	if err != nil {
		return err
	}
	return s.sendStatus(counts[s.device])
}

func (s *session) sendStatus(left keys.Count) error {
	return s.connection.send(&obscurapb.WebSocketFrame{Payload: &obscurapb.WebSocketFrame_PreKeyStatus{
		PreKeyStatus: &obscurapb.PreKeyStatus{OneTimePreKeyCount: left.EC, MinThreshold: core.LowPreKeys,
			KyberPreKeyCount: left.Kyber}}})
}
