package bench

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/obscura-relay/obscura/gen/obscurapb"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

// A fakeRelay speaks the fixed part of the contract, keeps nothing, and lies as it is told. Tokens
// and tickets are device ids.
type fakeRelay struct {
	*httptest.Server
	// lie decides what becomes of the nth submission.
	lie func(n int) fate
	// hold is how long every answer to a send takes.
	hold time.Duration
	// closed relays give no tickets.
	closed bool

	n               atomic.Int64
	users, deletes  atomic.Int64
	acknowledgement atomic.Int64
	keys            sync.Map // every Idempotency-Key that came
	derives         bool     // a send without a key is taken
	devices         sync.Map // uuid.UUID to chan []*obscurapb.Envelope
	order           sync.Map // uuid.UUID (recipient) to a withheld *obscurapb.Envelope
}

type fate int

const (
	honest     fate = iota
	dropped         // promised, never sent
	gapped          // promised, reported as dropped
	doubled         // sent twice
	misplaced       // sent to another device
	refusedOne      // named in the list of failures, not sent
	denied          // named in the list of failures, and sent
	busy            // 503 with Retry-After, not sent
	broken          // 503 without Retry-After, and sent
	late            // sent after the next one of its sender
)

func newFakeRelay(t *testing.T, lie func(n int) fate) *fakeRelay {
	f := &fakeRelay{lie: lie}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/users", func(w http.ResponseWriter, _ *http.Request) {
		f.users.Add(1)
		f.auth(w, uuid.New(), nil)
	})
	mux.HandleFunc("DELETE /v1/account", func(http.ResponseWriter, *http.Request) { f.deletes.Add(1) })
	mux.HandleFunc("POST /v1/devices", func(w http.ResponseWriter, _ *http.Request) {
		id := uuid.New()
		f.devices.Store(id, make(chan *obscurapb.WebSocketFrame, 1<<16))
		f.auth(w, id, &id)
	})
	mux.HandleFunc("POST /v1/gateway/ticket", func(w http.ResponseWriter, r *http.Request) {
		if f.closed {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		w.WriteHeader(http.StatusCreated)
		_ = json.NewEncoder(w).Encode(map[string]string{"ticket": relaytest.Subject(t,
			strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")).String()})
	})
	mux.HandleFunc("GET /v1/gateway", f.gateway)
	mux.HandleFunc("POST /v1/messages", f.send)
	f.Server = httptest.NewServer(mux)
	t.Cleanup(f.Close)
	return f
}

// auth answers with a token that, as a JWT does, names its subject.
func (f *fakeRelay) auth(w http.ResponseWriter, sub uuid.UUID, dev *uuid.UUID) {
	claims := base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"` + sub.String() + `","iat":1,"exp":4102444800}`))
	w.WriteHeader(http.StatusCreated)
	_ = json.NewEncoder(w).Encode(map[string]any{"token": "x." + claims + ".x", "refreshToken": "r", "expiresAt": 1,
		"deviceId": dev})
}

func (f *fakeRelay) gateway(w http.ResponseWriter, r *http.Request) {
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	hangUp := func() { _ = conn.CloseNow() } // the answer is that it was closed already
	defer hangUp()
	mailbox, _ := f.devices.Load(uuid.MustParse(r.URL.Query().Get("ticket")))
	ctx := r.Context()
	closed := make(chan struct{})
	defer func() { <-closed }()
	defer hangUp()
	go func() {
		defer close(closed)
		for {
			_, data, err := conn.Read(ctx)
			if err != nil {
				return
			}
			var frame obscurapb.WebSocketFrame
			if proto.Unmarshal(data, &frame) == nil {
				f.acknowledgement.Add(int64(len(frame.GetAck().GetMessageIds())))
			}
		}
	}()
	for {
		select {
		case frame := <-mailbox.(chan *obscurapb.WebSocketFrame):
			data, err := proto.Marshal(frame)
			if err != nil || conn.Write(ctx, websocket.MessageBinary, data) != nil {
				return
			}
		case <-closed:
			return
		}
	}
}

func (f *fakeRelay) put(dev uuid.UUID, frame *obscurapb.WebSocketFrame) {
	mailbox, ok := f.devices.Load(dev)
	if ok {
		mailbox.(chan *obscurapb.WebSocketFrame) <- frame
	}
}

func envelopeFrame(message []byte) *obscurapb.WebSocketFrame {
	id := uuid.New()
	return &obscurapb.WebSocketFrame{
		Payload: &obscurapb.WebSocketFrame_EnvelopeBatch{EnvelopeBatch: &obscurapb.EnvelopeBatch{
			Envelopes: []*obscurapb.Envelope{{Id: id[:], Message: message}}}}}
}

func (f *fakeRelay) send(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	var request obscurapb.SendMessageRequest
	if err := proto.Unmarshal(body, &request); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	key := r.Header.Get("Idempotency-Key")
	if _, twice := f.keys.LoadOrStore(key, true); uuid.Validate(key) != nil && !f.derives || key != "" && twice {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	_ = pause(r.Context(), f.hold) // a caller who has gone needs no answer
	response, status := &obscurapb.SendMessageResponse{}, http.StatusOK
	for _, m := range request.GetMessages() {
		status = max(status, f.one(w, m, response))
	}
	w.WriteHeader(status)
	if status == http.StatusOK {
		answer, _ := proto.Marshal(response)
		_, _ = w.Write(answer)
	}
}

// one decides about a submission and returns the status of its request.
func (f *fakeRelay) one(w http.ResponseWriter, m *obscurapb.Submission, response *obscurapb.SendMessageResponse) int {
	to, frame := uuid.UUID(m.GetDeviceId()), envelopeFrame(m.GetMessage())
	fail := func() {
		response.FailedSubmissions = append(response.FailedSubmissions, &obscurapb.FailedSubmission{
			SubmissionId: m.GetSubmissionId(), ErrorCode: obscurapb.ErrorCode_ERROR_CODE_MAILBOX_FULL})
	}
	withheld, _ := f.order.LoadAndDelete(to)
	switch f.lie(int(f.n.Add(1))) {
	case dropped:
	case gapped:
		f.put(to, &obscurapb.WebSocketFrame{Payload: &obscurapb.WebSocketFrame_Gap{Gap: &obscurapb.Gap{From: 1,
			To: 1}}})
	case doubled:
		f.put(to, frame)
		f.put(to, frame)
	case misplaced:
		f.devices.Range(func(other, _ any) bool {
			if other.(uuid.UUID) == to {
				return true
			}
			f.put(other.(uuid.UUID), frame)
			return false
		})
	case refusedOne:
		fail()
	case denied:
		fail()
		f.put(to, frame)
	case busy:
		w.Header().Set("Retry-After", "1")
		return http.StatusServiceUnavailable
	case broken:
		f.put(to, frame)
		return http.StatusServiceUnavailable
	case late:
		f.order.Store(to, frame)
	default:
		f.put(to, frame)
	}
	if withheld != nil {
		f.put(to, withheld.(*obscurapb.WebSocketFrame))
	}
	return http.StatusOK
}
