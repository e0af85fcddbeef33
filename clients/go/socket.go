package obscura

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/coder/websocket"
	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/obscura-relay/obscura/gen/obscurapb"
)

const (
	// readLimit is more than the largest frame of a relay: one message of 256 KiB.
	readLimit = 1 << 20
	// readAhead is how many events wait for the application: as many as a relay sends before it
	// wants acknowledgements.
	readAhead = 1000
	// silence is how long a living relay may say nothing: it pings every 30 s.
	silence = time.Minute
	// writeWithin bounds the writing of a frame, and the goodbye.
	writeWithin = 5 * time.Second
	// gather is how long acknowledgements wait for others to share their frame.
	gather = 20 * time.Millisecond
)

var errSilence = errors.New("the relay has said nothing for a minute")

// socket is one connection of a gateway. Two goroutines serve it, a reader and an acknowledger;
// close waits for both.
type socket struct {
	conn   *websocket.Conn
	acks   *acks
	events chan Event // closed by the reader
	err    error      // why the reader ended; to be read after events is closed
	opened time.Time

	done   chan struct{} // closed by close
	life   context.Context
	kill   context.CancelCauseFunc
	alive  *time.Timer // kills it when it fires
	reader sync.WaitGroup
	acker  sync.WaitGroup
}

// openSocket opens the gateway. ctx bounds the opening; close ends what follows.
func openSocket(ctx context.Context, httpClient *http.Client, url string, header http.Header,
	a *acks) (*socket, error) {
	s := &socket{acks: a, events: make(chan Event, readAhead), done: make(chan struct{})}
	s.life, s.kill = context.WithCancelCause(context.WithoutCancel(ctx))
	s.alive = time.AfterFunc(silence, func() { s.kill(errSilence) })
	conn, response, err := websocket.Dial(ctx, url, &websocket.DialOptions{HTTPClient: httpClient, HTTPHeader: header, //nolint:bodyclose // the library closes it
		OnPingReceived: func(context.Context, []byte) bool {
			s.alive.Reset(silence)
			return true
		}})
	if err != nil {
		s.alive.Stop()
		s.kill(nil)
		return nil, refused(response, err)
	}
	conn.SetReadLimit(readLimit)
	s.conn, s.opened = conn, time.Now()
	s.reader.Go(s.read)
	s.acker.Go(s.acknowledge)
	return s, nil
}

// read hands frames on until the connection ends.
func (s *socket) read() {
	defer close(s.events)
	for {
		kind, data, err := s.conn.Read(s.life)
		if err != nil {
			if cause := context.Cause(s.life); cause != nil {
				err = cause
			}
			s.err = lost(err)
			return
		}
		s.alive.Reset(silence)
		var events []Event
		if kind == websocket.MessageBinary {
			events, err = decode(data)
		} else {
			err = errors.New("the relay sent a text frame")
		}
		if err != nil {
			s.err = err
			return
		}
		for _, e := range events {
			select {
			case s.events <- e:
			case <-s.done:
				return
			}
		}
	}
}

// acknowledge sends acknowledgements until the connection ends, or close is called and sends the
// last.
func (s *socket) acknowledge() {
	for {
		select {
		case <-s.acks.wake:
		case <-s.done:
			return
		}
		select {
		case <-time.After(gather):
		case <-s.done:
			return
		}
		if s.flush() != nil {
			return
		}
	}
}

// flush sends the acknowledgements there are.
func (s *socket) flush() error {
	for {
		ids := s.acks.take()
		if len(ids) == 0 {
			return nil
		}
		if err := s.send(ids); err != nil {
			s.acks.giveBack(ids)
			return err
		}
	}
}

func (s *socket) send(ids []uuid.UUID) error {
	ack := &obscurapb.AckMessage{MessageIds: make([][]byte, len(ids))}
	for i := range ids {
		ack.MessageIds[i] = ids[i][:]
	}
	data, err := proto.Marshal(&obscurapb.WebSocketFrame{Payload: &obscurapb.WebSocketFrame_Ack{Ack: ack}})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(s.life, writeWithin)
	defer cancel()
	return s.conn.Write(ctx, websocket.MessageBinary, data)
}

// close sends what is left to acknowledge, says goodbye and waits for the goroutines: at most about
// 10 s, when nobody answers.
func (s *socket) close() {
	close(s.done)
	s.acker.Wait()
	if s.flush() == nil {
		_ = s.conn.Close(websocket.StatusNormalClosure, "")
	}
	_ = s.conn.CloseNow()
	s.kill(nil)
	s.reader.Wait()
	s.alive.Stop()
}

// refused is the error of an upgrade that did not come about.
func refused(response *http.Response, err error) error {
	if response == nil || response.StatusCode < http.StatusBadRequest {
		return lost(err)
	}
	body, _ := io.ReadAll(response.Body) // from memory
	return failure(response, body)
}
