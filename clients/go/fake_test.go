package obscura_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	obscura "github.com/obscura-relay/obscura/clients/go"
	"github.com/obscura-relay/obscura/gen/obscurapb"
)

const requestID = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff"

// fake is a relay over pipes, for tests in fake time: what it answers is the test's.
type fake struct {
	*http.ServeMux
	user, device uuid.UUID
	// pairs counts the pairs that were made, and refreshes the requests for one.
	pairs, refreshes atomic.Int64
	accept           chan net.Conn
	closed           chan struct{}
	closeOnce        sync.Once
}

// inFakeTime runs a test in a bubble, with a fake relay and a device's session at it.
func inFakeTime(t *testing.T, options obscura.Options, test func(*testing.T, *fake, *obscura.Session)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := &fake{ServeMux: http.NewServeMux(), user: uuid.New(), device: uuid.New(), accept: make(chan net.Conn),
			closed: make(chan struct{})}
		answer := func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/x-protobuf") // nobody looks at that of JSON
			f.ServeHTTP(w, r)
		}
		server := &http.Server{Handler: http.HandlerFunc(answer), ReadHeaderTimeout: time.Hour}
		go func() { _ = server.Serve(f) }()
		transport := &http.Transport{DialContext: f.dial}
		options.HTTPClient = &http.Client{Transport: transport, Timeout: 30 * time.Second}
		defer server.Close()
		defer transport.CloseIdleConnections()
		relay, err := obscura.New("http://relay.example", options)
		if err != nil {
			t.Fatal(err)
		}
		s, err := relay.Resume(f.pair())
		if err != nil {
			t.Fatal(err)
		}
		test(t, f, s)
	})
}

// pair makes tokens that live for 15 minutes.
func (f *fake) pair() obscura.Tokens {
	n, now, number := f.pairs.Add(1), time.Now().Unix(), int32(1)
	claims := fmt.Sprintf(`{"sub":%q,"iat":%d,"exp":%d}`, f.user, now, now+900)
	return obscura.Tokens{Token: "e30." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + fmt.Sprintf(".%d", n),
		RefreshToken: fmt.Sprintf("refresh %d", n), ExpiresAt: now + 900, DeviceID: &f.device, DeviceNumber: &number}
}

// refreshing answers refreshes: the n-th, from 1 on, as the test says.
func (f *fake) refreshing(answer func(n int64, w http.ResponseWriter, r *http.Request)) {
	f.HandleFunc("POST /v1/sessions/refresh", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // a server sees its client leave when it has read the body
		answer(f.refreshes.Add(1), w, r)
	})
}

func (f *fake) answerPair(w http.ResponseWriter) {
	_ = json.NewEncoder(w).Encode(f.pair()) // the client may have gone
}

// refuse answers with an error of the contract.
func refuse(w http.ResponseWriter, status int, code, retryAfter string) {
	if retryAfter != "" {
		w.Header().Set("Retry-After", retryAfter)
	}
	w.Header().Set("X-Request-Id", requestID)
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `{"error":"A sentence.","code":%q}`, code)
}

// hangUp closes the connection without an answer.
func hangUp(http.ResponseWriter) { panic(http.ErrAbortHandler) }

// gateway serves each socket with the function, and closes it afterwards.
func (f *fake) gateway(serve func(*fakeSocket)) {
	var opened atomic.Int64
	f.HandleFunc("GET /v1/gateway", func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer func() { _ = conn.CloseNow() }()
		serve(&fakeSocket{Conn: conn, number: opened.Add(1)})
	})
}

// fakeSocket is the relay's end.
type fakeSocket struct {
	*websocket.Conn
	number int64 // from 1 on
}

func (s *fakeSocket) send(frame *obscurapb.WebSocketFrame) error {
	data, err := proto.Marshal(frame)
	if err != nil {
		return err
	}
	return s.Write(context.Background(), websocket.MessageBinary, data)
}

// acks reads the ids of the next acknowledgement.
func (s *fakeSocket) acks() ([][]byte, error) {
	_, data, err := s.Read(context.Background())
	if err != nil {
		return nil, err
	}
	var frame obscurapb.WebSocketFrame
	if err := proto.Unmarshal(data, &frame); err != nil {
		return nil, err
	}
	return frame.GetAck().GetMessageIds(), nil
}

// mail is a frame with the envelopes first to last, with ids of their own.
func mail(first, last uint64) *obscurapb.WebSocketFrame {
	batch := &obscurapb.EnvelopeBatch{}
	for n := first; n <= last; n++ {
		id, sender := uuid.NewSHA1(uuid.Nil, []byte{byte(n), byte(n >> 8)}), uuid.New()
		batch.Envelopes = append(batch.Envelopes,
			&obscurapb.Envelope{Id: id[:], SenderId: sender[:], SenderDeviceId: sender[:], Sequence: n,
				Message: []byte("x")})
	}
	return &obscurapb.WebSocketFrame{Payload: &obscurapb.WebSocketFrame_EnvelopeBatch{EnvelopeBatch: batch}}
}

func (f *fake) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case f.accept <- theirs:
		return ours, nil
	case <-f.closed:
	case <-ctx.Done():
	}
	return nil, &net.OpError{Op: "dial", Net: "pipe", Err: errors.New("connection refused")}
}

// Accept implements net.Listener.
func (f *fake) Accept() (net.Conn, error) {
	select {
	case conn := <-f.accept:
		return conn, nil
	case <-f.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (f *fake) Close() error {
	f.closeOnce.Do(func() { close(f.closed) })
	return nil
}

// Addr implements net.Listener.
func (f *fake) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

// batch is one that any test may send.
func batch() obscura.Batch {
	return obscura.NewBatch(obscura.Submission{DeviceID: uuid.New(), Message: []byte("hello")})
}
