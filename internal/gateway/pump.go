package gateway

import (
	"errors"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/obscura-relay/obscura/gen/obscurapb"
	"github.com/obscura-relay/obscura/internal/core"
)

// work is the pump: it does what is to be done and ends when nothing is.
func (s *session) work() {
	for {
		s.mu.Lock()
		todo := s.todo
		s.todo = 0
		if todo == 0 || s.finished {
			s.running = false
			s.mu.Unlock()
			return
		}
		if todo&doClose != 0 {
			s.finished = true
		}
		code := s.code
		s.mu.Unlock()
		if todo&doClose != 0 {
			s.sayGoodbye(code)
			continue
		}
		switch err := s.do(todo); {
		case errors.Is(err, errYield):
			s.kick(doMail)
		case err != nil:
			s.cutOff()
		}
	}
}

// do returns an error when the socket is broken.
func (s *session) do(todo uint8) error {
	if todo&doPing != 0 {
		s.stayAlive(pongWithin) // before the ping: the pong, which may be quick, extends it
		if err := s.socket.WriteControl(pingMessage, nil, time.Now().Add(writeWithin)); err != nil {
			return err
		}
		s.ping.Reset(pingEvery)
	}
	if todo&doStatus != 0 {
		if err := s.sendStatus(); err != nil {
			return err
		}
	}
	if todo&doVerify != 0 {
		s.verify()
	}
	if todo&doGaps != 0 {
		if err := s.sendLateGaps(); err != nil {
			return err
		}
	}
	if todo&doFresh != 0 {
		fresh, inLine := s.takeFresh()
		if err := s.sendEnvelopes(fresh); err != nil {
			return err
		}
		if !inLine {
			todo |= doMail
		}
	}
	if todo&doMail != 0 {
		return s.deliver()
	}
	return nil
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
func (s *session) verify() {
	live, err := s.gateway.cfg.LiveSessions(s.ctx, []core.SessionID{s.principal.Session})
	if err == nil && len(live) == 0 {
		s.close(closeRevoked)
	}
}

// sendStatus tells the device how many one-time keys are left.
func (s *session) sendStatus() error {
	ec, kyber, err := s.gateway.cfg.PreKeyCounts(s.ctx, s.principal.Device)
	if err != nil { // the next time keys run low, or the next connection, tells it
		return nil
	}
	return s.write(&obscurapb.WebSocketFrame{Payload: &obscurapb.WebSocketFrame_PreKeyStatus{
		PreKeyStatus: &obscurapb.PreKeyStatus{OneTimePreKeyCount: ec, MinThreshold: core.LowPreKeys, KyberPreKeyCount: kyber}}})
}

var frames = sync.Pool{New: func() any { return new([]byte) }}

// maxPooledFrame keeps the buffers of rare large frames out of the pool.
const maxPooledFrame = 128 << 10

// write sends one frame. An error means that the socket is finished.
func (s *session) write(frame *obscurapb.WebSocketFrame) error {
	buf := frames.Get().(*[]byte)
	if size := proto.Size(frame); cap(*buf) < size { // exactly: growing would cost a slow reader more
		*buf = make([]byte, 0, size)
	}
	data, err := proto.MarshalOptions{UseCachedSize: true}.MarshalAppend((*buf)[:0], frame)
	if err != nil {
		return errors.Join(errors.New("cannot encode a frame"), err)
	}
	if err = s.socket.SetWriteDeadline(time.Now().Add(writeWithin)); err == nil {
		err = s.socket.WriteMessage(binaryMessage, data)
	}
	if cap(data) <= maxPooledFrame {
		*buf = data[:0]
		frames.Put(buf)
	}
	return err
}
