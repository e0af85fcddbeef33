package gateway

import (
	"context"
	"errors"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/obscura-relay/obscura/gen/obscurapb"
	"github.com/obscura-relay/obscura/internal/core"
)

// work is the pump: it does what is to be done, the most urgent first, and ends when nothing is.
func (s *session) work() {
	for {
		step, code := s.next()
		if step == 0 {
			return
		}
		s.perform(step, code)
	}
}

// next takes the most urgent of what is to be done. 0: nothing, and the pump counts as ended.
func (s *session) next() (step uint8, code int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.todo == 0 || s.finished {
		s.todo, s.running = 0, false
		return 0, 0
	}
	step = s.todo & -s.todo
	s.todo &^= step
	s.finished = step == doClose
	return step, s.code
}

// errYield says that something more urgent came up, and errLater that the database did not answer: the
// step is to be done again, at once or after a moment.
var (
	errYield = errors.New("yield")
	errLater = errors.New("later")
)

// perform survives a panic, as handlers of requests do: it costs this session and nobody else's.
func (s *session) perform(step uint8, code int) {
	defer func() {
		if r := recover(); r != nil {
			s.gateway.panicked(r)
			s.close(closeInternal)
		}
	}()
	switch err := s.do(step, code); {
	case errors.Is(err, errYield):
		s.kick(step)
	case errors.Is(err, errLater):
		s.postpone(step)
	case err != nil:
		s.cutOff()
	}
}

// do takes one step. An error that is not one of the above means that the socket is broken.
func (s *session) do(step uint8, code int) error {
	switch step {
	case doClose:
		s.sayGoodbye(code)
		return nil
	case doPong:
		return s.answer()
	case doPing:
		return s.sendPing()
	case doVerify:
		return s.verify()
	case doStatus:
		return s.sendStatus()
	case doGaps:
		return s.sendLateGaps()
	case doFresh:
		return s.deliverFresh()
	default:
		return s.deliver()
	}
}

// ask lets the pump put one question to the database, which may not answer for as long as it likes:
// pings must not wait for it.
func (s *session) ask(question func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(s.ctx, queryWithin)
	defer cancel()
	if err := question(ctx); err != nil {
		return errLater
	}
	if s.pressing() {
		return errYield
	}
	return nil
}

// pressing reports that a ping or a close waits.
func (s *session) pressing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.todo&(doPing|doClose) != 0
}

// postpone does a step again in a moment.
func (s *session) postpone(step uint8) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.postponed |= step
	if !s.finished {
		s.retry.Reset(retryAfter)
	}
}

// resume does what was postponed.
func (s *session) resume() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.start(s.postponed)
	s.postponed = 0
}

// sayGoodbye sends the close frame and gives the client a moment to answer it.
func (s *session) sayGoodbye(code int) {
	_ = s.socket.WriteControl(closeMessage, closePayload(code), time.Now().Add(goodbye))
	_ = s.socket.SetReadDeadline(time.Now().Add(goodbye))
}

// cutOff ends a broken socket: the reader returns and with it the session.
func (s *session) cutOff() {
	s.mu.Lock()
	s.finished = true
	s.mu.Unlock()
	_ = s.socket.SetReadDeadline(time.Now())
}

// verify closes the socket when its session ended before the socket was registered and could be told.
func (s *session) verify() error {
	return s.ask(func(ctx context.Context) error {
		live, err := s.gateway.cfg.LiveSessions(ctx, []core.SessionID{s.principal.Session})
		if err == nil && len(live) == 0 {
			s.close(closeRevoked)
		}
		return err
	})
}

// sendStatus tells the device how many one-time keys are left.
func (s *session) sendStatus() error {
	var ec, kyber int32
	err := s.ask(func(ctx context.Context) (err error) {
		ec, kyber, err = s.gateway.cfg.PreKeyCounts(ctx, s.principal.Device)
		return err
	})
	if err != nil {
		return err
	}
	return s.send(&obscurapb.WebSocketFrame{Payload: &obscurapb.WebSocketFrame_PreKeyStatus{
		PreKeyStatus: &obscurapb.PreKeyStatus{OneTimePreKeyCount: ec, MinThreshold: core.LowPreKeys, KyberPreKeyCount: kyber}}})
}

var frames = sync.Pool{New: func() any { return new([]byte) }}

// maxPooledFrame keeps the buffers of rare large frames out of the pool.
const maxPooledFrame = 128 << 10

// send sends one frame. An error means that the socket is finished.
func (s *session) send(frame *obscurapb.WebSocketFrame) error {
	buf := frames.Get().(*[]byte)
	if size := proto.Size(frame); cap(*buf) < size { // exactly: growing would cost a slow reader more
		*buf = make([]byte, 0, size)
	}
	data, err := proto.MarshalOptions{UseCachedSize: true}.MarshalAppend((*buf)[:0], frame)
	if err != nil {
		return errors.Join(errors.New("cannot encode a frame"), err)
	}
	if len(data) > fewBytes {
		s.stayAlive(pingEvery + pongWithin)
	}
	err = s.write(func() error {
		if err := s.socket.SetWriteDeadline(time.Now().Add(writeWithin)); err != nil {
			return err
		}
		return s.socket.WriteMessage(binaryMessage, data)
	})
	if cap(data) <= maxPooledFrame {
		*buf = data[:0]
		frames.Put(buf)
	}
	return err
}
