package docs_test

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/obscura-relay/obscura/gen/client"
	"github.com/obscura-relay/obscura/gen/obscurapb"
	"github.com/obscura-relay/obscura/internal/core/mailbox"
	"github.com/obscura-relay/obscura/internal/kit/prekeytest"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
	"github.com/obscura-relay/obscura/internal/kit/wait"
)

var update = flag.Bool("update", false, "write the dumps of protocol.md instead of comparing with them")

func TestMain(m *testing.M) { relaytest.Main(m) }

// What the document uses in place of random values.
var (
	submission   = uuid.MustParse("11111111-1111-4111-8111-111111111111")
	recipient    = uuid.MustParse("22222222-2222-4222-8222-222222222222")
	sender       = uuid.MustParse("33333333-3333-4333-8333-333333333333")
	senderDevice = uuid.MustParse("44444444-4444-4444-8444-444444444444")
	envelopeID   = mailbox.IDsOf(recipient).Name(1)
)

const acceptedAt = 1_800_000_000_000 // milliseconds

func envelope() *obscurapb.Envelope {
	return &obscurapb.Envelope{Id: envelopeID[:], SenderId: sender[:], SenderDeviceId: senderDevice[:],
		SenderDeviceNumber: 1,
		Timestamp:          acceptedAt, Sequence: 1, Message: []byte("hello")}
}

// documented is what the dumps of the document show, by their names.
func documented(t *testing.T) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	add := func(name string, m proto.Message) {
		data, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		out[name] = data
	}
	add("send request", &obscurapb.SendMessageRequest{Messages: []*obscurapb.Submission{
		{SubmissionId: submission[:], DeviceId: recipient[:], Message: []byte("hello")}}})
	add("send sealed", &obscurapb.SendMessageRequest{Messages: []*obscurapb.Submission{{SubmissionId: submission[:],
		DeviceId: recipient[:], Message: []byte("hello"), DeliveryToken: bytes.Repeat([]byte{0x33}, 32)}}})
	add("send answer", &obscurapb.SendMessageResponse{
		FailedSubmissions: []*obscurapb.FailedSubmission{{SubmissionId: submission[:],
			ErrorCode: obscurapb.ErrorCode_ERROR_CODE_INVALID_DEVICE, ErrorMessage: "There is no such device."}}})
	add("pre-key status", &obscurapb.WebSocketFrame{Payload: &obscurapb.WebSocketFrame_PreKeyStatus{
		PreKeyStatus: &obscurapb.PreKeyStatus{OneTimePreKeyCount: 5, MinThreshold: 20, KyberPreKeyCount: 2}}})
	add("envelope batch", &obscurapb.WebSocketFrame{Payload: &obscurapb.WebSocketFrame_EnvelopeBatch{
		EnvelopeBatch: &obscurapb.EnvelopeBatch{Envelopes: []*obscurapb.Envelope{envelope()}}}})
	add("drained", &obscurapb.WebSocketFrame{
		Payload: &obscurapb.WebSocketFrame_Drained{Drained: &obscurapb.Drained{Sequence: 1}}})
	add("drained, never any mail",
		&obscurapb.WebSocketFrame{Payload: &obscurapb.WebSocketFrame_Drained{Drained: &obscurapb.Drained{}}})
	add("gap", &obscurapb.WebSocketFrame{Payload: &obscurapb.WebSocketFrame_Gap{
		Gap: &obscurapb.Gap{From: 1, To: 3, Reason: obscurapb.Gap_REASON_TAKEOVER}}})
	add("acknowledgement", &obscurapb.WebSocketFrame{Payload: &obscurapb.WebSocketFrame_Ack{
		Ack: &obscurapb.AckMessage{MessageIds: [][]byte{envelopeID[:]}}}})
	return out
}

var dump = regexp.MustCompile("(?s)(<!-- bytes: ([^>]*) -->\n```text\n)(.*?)(```\n)")

func TestTheDumpsOfTheProtocolDocumentAreTheMessagesTheyName(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	want, seen := documented(t), 0
	fresh := dump.ReplaceAllStringFunc(string(text), func(old string) string {
		m := dump.FindStringSubmatch(old)
		data, known := want[m[2]]
		if !known {
			t.Errorf("protocol.md shows %q, which nothing here makes", m[2])
			return old
		}
		seen++
		return m[1] + hexDump(data) + m[4]
	})
	if seen != len(want) {
		t.Errorf("protocol.md shows %d of %d messages", seen, len(want))
	}
	if *update {
		if err := os.WriteFile("protocol.md", []byte(fresh), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if fresh != string(text) {
		t.Error("a dump in protocol.md is stale, run: go test ./docs -run TestTheDumps -update")
	}
}

// hexDump writes lines of sixteen bytes with what can be read of them.
func hexDump(data []byte) string {
	var b strings.Builder
	for i := 0; i < len(data); i += 16 {
		part := data[i:min(i+16, len(data))]
		readable := bytes.Clone(part)
		for j, c := range readable {
			if c < ' ' || c > '~' {
				readable[j] = '.'
			}
		}
		fmt.Fprintf(&b, "%04x  %-47s  %s\n", i, spaced(part), readable)
	}
	return b.String()
}

func spaced(data []byte) string {
	texts := make([]string, len(data))
	for i := range data {
		texts[i] = hex.EncodeToString(data[i : i+1])
	}
	return strings.Join(texts, " ")
}

// The dumps again, this time against what a relay really sends and takes.
func TestARelaySpeaksWhatTheProtocolDocumentShows(t *testing.T) {
	t.Parallel()
	want := documented(t)
	relay := relaytest.Start(t)
	alice, bob := relay.Register(t).NewDevice(t), relay.Register(t).NewDevice(t)

	got, err := alice.SendMessagesWithBodyWithResponse(t.Context(), &client.SendMessagesParams{},
		"application/x-protobuf",
		bytes.NewReader(want["send request"]))
	if err != nil || got.StatusCode() != http.StatusOK || !bytes.Equal(got.Body, want["send answer"]) {
		t.Errorf("the answer to the documented request: %v %x", err, got.Body)
	}

	socket := bob.Connect(t)
	expect(t, "pre-key status", read(t, socket), want)
	expect(t, "drained, never any mail", read(t, socket), want)
	if failed := alice.Send(t, nil, relaytest.To(bob.ID, "hello")); len(failed) != 0 {
		t.Fatal(failed)
	}
	raw := read(t, socket)
	expect(t, "envelope batch", pinned(t, raw), want)
	if len(raw) != len(want["envelope batch"]) {
		t.Errorf("the relay's envelope has %d bytes, the document's %d", len(raw), len(want["envelope batch"]))
	}
	// An id that is not Bob's is ignored and the socket stays: the next envelope comes.
	if err := socket.Write(t.Context(), websocket.MessageBinary, want["acknowledgement"]); err != nil {
		t.Fatal(err)
	}
	alice.Send(t, nil, relaytest.To(bob.ID, "two"), relaytest.To(bob.ID, "three"))
	for n := 0; n < 2; {
		n += len(decode(t, read(t, socket)).GetEnvelopeBatch().GetEnvelopes())
	}

	// What the document shows of a backlog and of its acknowledgement.
	carol := relay.Register(t).NewDevice(t)
	alice.Send(t, nil, relaytest.To(carol.ID, "hello"))
	backlog := carol.Connect(t)
	expect(t, "pre-key status", read(t, backlog), want)
	first := decode(t, read(t, backlog)).GetEnvelopeBatch().GetEnvelopes()[0]
	expect(t, "drained", read(t, backlog), want)
	if err := backlog.Write(t.Context(), websocket.MessageBinary,
		bytes.Replace(want["acknowledgement"], envelopeID[:], first.GetId(), 1)); err != nil {
		t.Fatal(err)
	}
	wait.Eventually(t, "the acknowledged envelope is gone", func() bool {
		envelopes, _, _ := carol.Connect(t).Drain()
		return len(envelopes) == 0
	})

	takeOver(t, bob)
	if code := socket.CloseCode(); code != 4401 {
		t.Errorf("closed with %d", code)
	}
	socket = bob.Connect(t)
	read(t, socket) // how many keys are left
	expect(t, "gap", read(t, socket), want)
	if frame := decode(t, read(t, socket)); frame.GetDrained().GetSequence() != 3 {
		t.Errorf("after the gap: %v", frame)
	}
}

func takeOver(t *testing.T, d *relaytest.Device) {
	t.Helper()
	identity := prekeytest.NewIdentity()
	registration, signed := prekeytest.NewRegistrationID(), identity.SignedPreKey(1)
	got, err := d.UploadKeysWithResponse(t.Context(),
		client.KeyUpload{IdentityKey: &identity.Public, RegistrationID: &registration, SignedPreKey: &signed})
	if err != nil || got.StatusCode() != http.StatusOK {
		t.Fatalf("takeover: %v %s", err, got.Body)
	}
}

func read(t *testing.T, s *relaytest.Socket) []byte {
	t.Helper()
	_, data, err := s.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func decode(t *testing.T, data []byte) *obscurapb.WebSocketFrame {
	t.Helper()
	var frame obscurapb.WebSocketFrame
	if err := proto.Unmarshal(data, &frame); err != nil {
		t.Fatal(err)
	}
	return &frame
}

// pinned replaces what is random in a frame with one envelope by the document's values.
func pinned(t *testing.T, data []byte) []byte {
	t.Helper()
	frame := decode(t, data)
	envelopes := frame.GetEnvelopeBatch().GetEnvelopes()
	if len(envelopes) != 1 {
		t.Fatalf("not one envelope: %v", frame)
	}
	e := envelopes[0]
	e.Id, e.SenderId, e.SenderDeviceId, e.Timestamp = envelopeID[:], sender[:], senderDevice[:], acceptedAt
	out, err := proto.MarshalOptions{Deterministic: true}.Marshal(frame)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func expect(t *testing.T, name string, got []byte, want map[string][]byte) {
	t.Helper()
	if !bytes.Equal(got, want[name]) {
		t.Errorf("%s: the relay sent %x, the document shows %x", name, got, want[name])
	}
}
