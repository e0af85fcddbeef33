package relaytest

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/obscura-relay/obscura/gen/obscurapb"
	"github.com/obscura-relay/obscura/internal/kit/contract"
)

// Socket is an open gateway.
type Socket struct {
	*websocket.Conn
	t testing.TB
	// Status is the newest PreKeyStatus that was read.
	Status *obscurapb.PreKeyStatus
}

// Connect opens the gateway with a ticket.
func (d *Device) Connect(t testing.TB) *Socket {
	t.Helper()
	got, err := d.CreateGatewayTicketWithResponse(t.Context())
	if err != nil || got.JSON201 == nil {
		t.Fatalf("ticket: %v, %s", err, body(got))
	}
	s, status := d.relay.Dial(t, "?ticket="+got.JSON201.Ticket, nil)
	if s == nil {
		t.Fatalf("connect: status %d", status)
	}
	return s
}

// Dial tries to open the gateway; without success it returns the status.
func (r *Relay) Dial(t testing.TB, query string, header http.Header) (*Socket, int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	conn, response, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(r.API, "http")+"/v1/gateway"+query, //nolint:bodyclose // the library closes it
		&websocket.DialOptions{HTTPHeader: header, HTTPClient: r.http})
	if err != nil {
		if response == nil {
			t.Fatal(err)
		}
		return nil, response.StatusCode
	}
	return NewSocket(t, conn), http.StatusSwitchingProtocols
}

// NewSocket takes an open connection for a gateway; the end of the test closes it.
func NewSocket(t testing.TB, conn *websocket.Conn) *Socket {
	conn.SetReadLimit(4 << 20)
	t.Cleanup(func() { _ = conn.CloseNow() })
	return &Socket{Conn: conn, t: t}
}

// Frame reads the next frame. An error is the end of the socket.
func (s *Socket) Frame() (*obscurapb.WebSocketFrame, error) {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	kind, data, err := s.Read(ctx)
	if err != nil {
		return nil, err
	}
	if kind != websocket.MessageBinary {
		return nil, errors.New("a text frame from the relay")
	}
	var frame obscurapb.WebSocketFrame
	if err := proto.Unmarshal(data, &frame); err != nil {
		return nil, err
	}
	if contract.Undeclared(&frame) {
		return nil, fmt.Errorf("a frame with fields that obscura.proto does not name: %x", data)
	}
	if frame.GetPreKeyStatus() != nil {
		s.Status = frame.GetPreKeyStatus()
	}
	return &frame, nil
}

// Next reads the next frame that is not a PreKeyStatus.
func (s *Socket) Next() *obscurapb.WebSocketFrame {
	s.t.Helper()
	for {
		frame, err := s.Frame()
		if err != nil {
			s.t.Fatalf("no frame: %v", err)
		}
		if frame.GetPreKeyStatus() == nil {
			return frame
		}
	}
}

// Envelopes reads until n envelopes have come and returns them. Gaps fail the test.
func (s *Socket) Envelopes(n int) []*obscurapb.Envelope {
	s.t.Helper()
	var out []*obscurapb.Envelope
	for len(out) < n {
		frame := s.Next()
		if frame.GetGap() != nil {
			s.t.Fatalf("a gap: %v", frame.GetGap())
		}
		out = append(out, frame.GetEnvelopeBatch().GetEnvelopes()...)
	}
	if len(out) > n {
		s.t.Fatalf("%d envelopes, want %d", len(out), n)
	}
	return out
}

// Drain reads until Drained and returns what came before it and its sequence.
func (s *Socket) Drain() (envelopes []*obscurapb.Envelope, gaps []*obscurapb.Gap, sequence uint64) {
	s.t.Helper()
	for {
		frame := s.Next()
		switch {
		case frame.GetDrained() != nil:
			return envelopes, gaps, frame.GetDrained().GetSequence()
		case frame.GetGap() != nil:
			gaps = append(gaps, frame.GetGap())
		default:
			envelopes = append(envelopes, frame.GetEnvelopeBatch().GetEnvelopes()...)
		}
	}
}

// Ack acknowledges envelopes.
func (s *Socket) Ack(envelopes ...*obscurapb.Envelope) {
	s.t.Helper()
	ack := &obscurapb.AckMessage{}
	for _, e := range envelopes {
		ack.MessageIds = append(ack.MessageIds, e.GetId())
	}
	s.WriteFrame(&obscurapb.WebSocketFrame{Payload: &obscurapb.WebSocketFrame_Ack{Ack: ack}})
}

// WriteFrame sends a frame.
func (s *Socket) WriteFrame(frame *obscurapb.WebSocketFrame) {
	s.t.Helper()
	data, err := proto.Marshal(frame)
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	if err := s.Write(ctx, websocket.MessageBinary, data); err != nil {
		s.t.Fatalf("cannot write a frame: %v", err)
	}
}

// CloseCode reads until the socket ends and returns the code, -1 when there was none.
func (s *Socket) CloseCode() int {
	for {
		if _, err := s.Frame(); err != nil {
			return int(websocket.CloseStatus(err))
		}
	}
}

// Subject reads the user id out of an access token, as clients do.
func Subject(t testing.TB, token string) uuid.UUID {
	t.Helper()
	id, err := uuid.Parse(Claims(t, token)["sub"].(string))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// Claims reads the payload of an access token, as clients do.
func Claims(t testing.TB, token string) map[string]any {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatal("not a JWT")
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	var claims map[string]any
	if err == nil {
		err = json.Unmarshal(payload, &claims)
	}
	if err != nil {
		t.Fatal(err)
	}
	return claims
}
