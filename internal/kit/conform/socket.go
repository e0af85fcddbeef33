package conform

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/protobuf/proto"

	"github.com/obscura-relay/obscura/gen/obscurapb"
)

// A socket is an open gateway. One goroutine reads it until it ends, so that the relay never waits
// for a check; drop waits for that goroutine.
type socket struct {
	t      *try
	conn   *websocket.Conn
	cancel context.CancelFunc
	done   chan struct{} // closed when the socket has ended and err is set
	err    error
	more   chan struct{} // holds one when frames has grown

	mu     sync.Mutex
	frames []*obscurapb.WebSocketFrame // guarded by mu: read, and not asked for yet
}

func (s *socket) read(ctx context.Context) {
	defer close(s.done)
	for {
		frame, err := readFrame(ctx, s.conn)
		if err != nil {
			s.err = err
			return
		}
		s.mu.Lock()
		s.frames = append(s.frames, frame)
		s.mu.Unlock()
		select {
		case s.more <- struct{}{}:
		default:
		}
	}
}

var errFrame = errors.New("a message that is not a binary WebSocketFrame")

func readFrame(ctx context.Context, conn *websocket.Conn) (*obscurapb.WebSocketFrame, error) {
	kind, data, err := conn.Read(ctx)
	if err != nil {
		return nil, err
	}
	var frame obscurapb.WebSocketFrame
	if kind != websocket.MessageBinary || proto.Unmarshal(data, &frame) != nil {
		return nil, errFrame
	}
	return &frame, nil
}

// drop ends the socket without a word and waits for its reader.
func (s *socket) drop() {
	s.cancel()
	_ = s.conn.CloseNow()
	<-s.done
}

// leave ends the socket in order, so that what was written before has been read.
func (s *socket) leave() {
	_ = s.conn.Close(websocket.StatusNormalClosure, "")
	s.drop()
}

// take returns a frame that has been read, or nil.
func (s *socket) take() *obscurapb.WebSocketFrame {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.frames) == 0 {
		return nil
	}
	frame := s.frames[0]
	s.frames = s.frames[1:]
	return frame
}

// next returns the next frame.
func (s *socket) next(what string) *obscurapb.WebSocketFrame {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		if frame := s.take(); frame != nil {
			return frame
		}
		select {
		case <-s.more:
		case <-s.done:
			if frame := s.take(); frame != nil {
				return frame
			}
			s.t.fail("the socket ended with %s while the check waited for %s", s.end(), what)
		case <-timer.C:
			s.t.fail("nothing came within %v; the check waited for %s", patience, what)
		}
	}
}

// end says how the socket ended.
func (s *socket) end() string {
	if code := websocket.CloseStatus(s.err); code != -1 {
		return "close code " + strconv.Itoa(int(code))
	}
	if errors.Is(s.err, errFrame) {
		return s.err.Error()
	}
	return "no close frame"
}

// closes fails unless the socket ends with this code, soon.
func (s *socket) closes(code int, when string) {
	timer := time.NewTimer(soon)
	defer timer.Stop()
	select {
	case <-s.done:
		s.t.must(int(websocket.CloseStatus(s.err)) == code, "%s: the socket ended with %s, want %d", when, s.end(),
			code)
	case <-timer.C:
		s.t.fail("%s: the socket is still open after %v, want it closed with %d", when, soon, code)
	}
}

// write sends a message as it is.
func (s *socket) write(kind websocket.MessageType, data []byte) error {
	ctx, cancel := context.WithTimeout(s.t.ctx, patience)
	defer cancel()
	return s.conn.Write(ctx, kind, data)
}

// ackFrame is an acknowledgement.
func ackFrame(ids ...[]byte) []byte {
	data, err := proto.Marshal(&obscurapb.WebSocketFrame{
		Payload: &obscurapb.WebSocketFrame_Ack{Ack: &obscurapb.AckMessage{MessageIds: ids}}})
	if err != nil {
		panic(err) // bytes always encode
	}
	return data
}

// ack acknowledges ids.
func (s *socket) ack(ids ...[]byte) {
	s.t.must(s.write(websocket.MessageBinary, ackFrame(ids...)) == nil, "the socket does not take an acknowledgement")
}

// acknowledge acknowledges envelopes.
func (s *socket) acknowledge(envelopes ...*obscurapb.Envelope) {
	var ids [][]byte
	for _, e := range envelopes {
		ids = append(ids, e.GetId())
	}
	s.ack(ids...)
}
