package gateway_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/obscura-relay/obscura/gen/obscurapb"
	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

// dropDrained reads the next envelopes behind Drained.
func dropDrained(s *relaytest.Socket) []*obscurapb.Envelope {
	for {
		if batch := s.Next().GetEnvelopeBatch(); batch != nil {
			return batch.GetEnvelopes()
		}
	}
}

func encode(t testing.TB, frame *obscurapb.WebSocketFrame) []byte {
	t.Helper()
	data, err := proto.Marshal(frame)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestABadFrameClosesTheSocket(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	user := relay.Register(t)
	for _, c := range []struct {
		name string
		kind websocket.MessageType
		data []byte
		code int
	}{
		{"a text frame", websocket.MessageText, []byte("hello"), 1008},
		{"an acknowledgement as text", websocket.MessageText, encode(t, &obscurapb.WebSocketFrame{
			Payload: &obscurapb.WebSocketFrame_Ack{Ack: &obscurapb.AckMessage{}}}), 1008},
		{"garbage", websocket.MessageBinary, bytes.Repeat([]byte{0xff}, 100), 1008},
		{"an empty frame", websocket.MessageBinary, nil, 1008},
		{"a frame of the server", websocket.MessageBinary, encode(t, &obscurapb.WebSocketFrame{
			Payload: &obscurapb.WebSocketFrame_Drained{Drained: &obscurapb.Drained{Sequence: 1}}}), 1008},
		{"an envelope", websocket.MessageBinary, encode(t, &obscurapb.WebSocketFrame{
			Payload: &obscurapb.WebSocketFrame_EnvelopeBatch{EnvelopeBatch: &obscurapb.EnvelopeBatch{}}}), 1008},
		{"64 KiB and a byte", websocket.MessageBinary, padded(t, 64<<10+1), 1009},
		{"1 MiB", websocket.MessageBinary, padded(t, 1<<20), 1009},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			socket := user.NewDevice(t).Connect(t)
			ctx, cancel := context.WithTimeout(t.Context(), relaytest.Patience)
			defer cancel()
			_ = socket.Write(ctx, c.kind, c.data) // the close may come while a large one is being written
			if code := socket.CloseCode(); code != c.code {
				t.Errorf("closed with %d, want %d", code, c.code)
			}
		})
	}
}

// padded is an acknowledgement with an unknown field, n bytes in all.
func padded(t testing.TB, n int) []byte {
	t.Helper()
	data := encode(t, &obscurapb.WebSocketFrame{Payload: &obscurapb.WebSocketFrame_Ack{Ack: &obscurapb.AckMessage{}}})
	data = protowire.AppendTag(data, 1000, protowire.BytesType)
	room := n - len(data)
	for prefix := 1; prefix < 5; prefix++ {
		if protowire.SizeBytes(room-prefix) == room {
			return protowire.AppendBytes(data, make([]byte, room-prefix))
		}
	}
	t.Fatalf("no frame has %d bytes", n)
	return nil
}

// bareSocket opens a socket without a library.
func bareSocket(t *testing.T, relay *relaytest.Relay, device *relaytest.Device) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(relay.API, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if _, err := io.WriteString(conn, "GET /v1/gateway HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer "+device.Token+
		"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	reader := bufio.NewReader(conn)
	answer, err := http.ReadResponse(reader, nil) //nolint:bodyclose // there is none
	if err != nil || answer.StatusCode != http.StatusSwitchingProtocols {
		t.Fatal(answer, err)
	}
	return conn, reader
}

// The length of a frame has 64 bits, of which the first must be 0 (RFC 6455, 5.2).
func TestAFrameOfImpossibleLengthIsTooBig(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	user := relay.Register(t)
	for _, length := range []uint64{1 << 62, 1<<63 - 1, 1 << 63, 1<<64 - 1} {
		conn, reader := bareSocket(t, relay, user.NewDevice(t))
		_ = conn.SetDeadline(time.Now().Add(relaytest.Patience))
		frame := binary.BigEndian.AppendUint64([]byte{0x82, 0x80 | 127}, length) // binary, masked
		if _, err := conn.Write(append(frame, 0, 0, 0, 0)); err != nil {
			t.Fatal(err)
		}
		for {
			header, payload := make([]byte, 2), []byte(nil)
			_, err := io.ReadFull(reader, header)
			if err == nil { // all that it sends is short
				payload = make([]byte, header[1])
				_, err = io.ReadFull(reader, payload)
			}
			if err != nil {
				t.Errorf("%x: no close, but %v", length, err)
				break
			}
			if header[0]&0xf == 8 {
				if code := binary.BigEndian.Uint16(payload); code != 1009 {
					t.Errorf("%x: closed with %d", length, code)
				}
				break
			}
		}
	}
}

// A fragmented message may have parts without end and without content, which the library joins by
// itself.
func TestEmptyPartsOfAMessageAreReadSlowly(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	device := relay.Register(t).NewDevice(t)
	conn, _ := bareSocket(t, relay, device)
	const seconds, queued = 3, 24 << 20 // what the kernel may queue at both ends
	if err := conn.SetWriteDeadline(time.Now().Add(seconds * time.Second)); err != nil {
		t.Fatal(err)
	}
	_, err := conn.Write([]byte{0x02, 0x80, 0, 0, 0, 0}) // binary, not the last part, empty
	parts := bytes.Repeat([]byte{0x00, 0x80, 0, 0, 0, 0}, 10_000)
	written := 0
	for n := 0; err == nil; written += n {
		n, err = conn.Write(parts)
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) || written > (seconds+1)<<20+queued {
		t.Errorf("%d bytes in %d seconds, then %v", written, seconds, err)
	}
}

func TestAFrameOf64KiBIsRead(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	alice, bob := relay.Register(t).NewDevice(t), relay.Register(t).NewDevice(t)
	socket := bob.Connect(t)
	socket.Drain()
	writeRaw(t, socket, websocket.MessageBinary, padded(t, 64<<10))
	alice.Send(t, nil, relaytest.To(bob.ID, "still here"))
	if got := socket.Envelopes(1); e2e.Texts(got) != "still here" {
		t.Errorf("%v", got)
	}
}

func TestAClientsPingIsAnswered(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	socket := relay.Register(t).NewDevice(t).Connect(t)
	socket.Drain()
	reading := make(chan struct{})
	go func() { // the library reads pongs while it reads
		defer close(reading)
		socket.CloseCode()
	}()
	ctx, cancel := context.WithTimeout(t.Context(), relaytest.Patience)
	defer cancel()
	for range 3 {
		if err := socket.Ping(ctx); err != nil {
			t.Errorf("no pong: %v", err)
		}
	}
	e2e.Disconnect(socket)
	<-reading
}

// writeRaw sends a frame of any kind.
func writeRaw(t testing.TB, s *relaytest.Socket, kind websocket.MessageType, data []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), relaytest.Patience)
	defer cancel()
	if err := s.Write(ctx, kind, data); err != nil {
		t.Fatal(err)
	}
}
