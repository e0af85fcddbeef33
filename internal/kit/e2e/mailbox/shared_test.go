package mailbox_test

import (
	"bytes"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/obscura-relay/obscura/gen/obscurapb"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

func recipient(device uuid.UUID, prefix string) *obscurapb.SharedRecipient {
	id := uuid.New()
	return &obscurapb.SharedRecipient{SubmissionId: id[:], DeviceId: device[:], Prefix: []byte(prefix)}
}

func shared(message string, recipients ...*obscurapb.SharedRecipient) *obscurapb.SharedSubmission {
	return &obscurapb.SharedSubmission{Message: []byte(message), Recipients: recipients}
}

func TestASharedBodyIsAnEnvelopeForEach(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	devices := e2e.Devices(t, relay, 12)
	alice, bob, carol := devices[0], devices[10], devices[11]
	request := &obscurapb.SendMessageRequest{
		Messages: []*obscurapb.Submission{relaytest.To(bob.ID, "alone")},
		Shared: []*obscurapb.SharedSubmission{
			shared("body", recipient(carol.ID, "c-"), recipient(bob.ID, "b-"), recipient(bob.ID, "")),
			shared(""), // nobody's
			shared("", recipient(bob.ID, "prefix")),
		},
	}
	for range 2 { // the second one is a repetition, by a key from the submission ids
		if answer := askFor(t, alice, nil, request); proto.Size(answer) != 0 {
			t.Errorf("%v", answer)
		}
	}
	for device, want := range map[*relaytest.Device]string{bob: "alone b-body body prefix", carol: "c-body"} {
		envelopes, _, _ := device.Connect(t).Drain()
		if e2e.Texts(envelopes) != want {
			t.Errorf("%q arrived, want %q", e2e.Texts(envelopes), want)
		}
		e2e.InOrder(t, envelopes, 1)
		if e := envelopes[0]; !bytes.Equal(e.GetSenderDeviceId(), alice.ID[:]) ||
			!bytes.Equal(e.GetSenderId(), alice.User.ID[:]) {
			t.Errorf("the sender is %x", e.GetSenderDeviceId())
		}
	}
}

func TestRecipientsFailOneByOne(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	alice, bob := relay.Register(t).NewDevice(t), relay.Register(t).NewDevice(t)
	nobody, short, noID := recipient(uuid.New(), "x"), recipient(bob.ID, "x"), recipient(bob.ID, "x")
	short.DeviceId, noID.SubmissionId = short.DeviceId[:15], nil
	empty, large := recipient(bob.ID, ""), recipient(bob.ID, "x")
	lost := relaytest.To(uuid.New(), "lost")
	answer := askFor(t, alice, nil, &obscurapb.SendMessageRequest{
		Messages: []*obscurapb.Submission{lost},
		Shared: []*obscurapb.SharedSubmission{shared("body", nobody, recipient(bob.ID, "1-"), short, noID),
			shared("", empty), shared(strings.Repeat("x", core.MaxMessage), large, recipient(bob.ID, ""))},
	})
	want := []struct {
		id   []byte
		code obscurapb.ErrorCode
	}{
		{lost.GetSubmissionId(), obscurapb.ErrorCode_ERROR_CODE_INVALID_DEVICE},
		{nobody.GetSubmissionId(), obscurapb.ErrorCode_ERROR_CODE_INVALID_DEVICE},
		{short.GetSubmissionId(), obscurapb.ErrorCode_ERROR_CODE_MALFORMED_DEVICE_ID},
		{nil, obscurapb.ErrorCode_ERROR_CODE_MALFORMED_SUBMISSION_ID},
		{empty.GetSubmissionId(), obscurapb.ErrorCode_ERROR_CODE_MESSAGE_MISSING},
		{large.GetSubmissionId(), obscurapb.ErrorCode_ERROR_CODE_MESSAGE_TOO_LARGE},
	}
	if len(answer.GetFailedSubmissions()) != len(want) {
		t.Fatalf("%v", answer)
	}
	for i, f := range answer.GetFailedSubmissions() {
		if f.GetErrorCode() != want[i].code || !bytes.Equal(f.GetSubmissionId(), want[i].id) {
			t.Errorf("failure %d is %v, want %v", i, f, want[i])
		}
	}
	if envelopes, _, _ := bob.Connect(t).Drain(); len(envelopes) != 2 || string(envelopes[0].GetMessage()) != "1-body" ||
		len(envelopes[1].GetMessage()) != core.MaxMessage {
		t.Errorf("%d envelopes arrived", len(envelopes))
	}
}

func TestBadSharedBodiesAreRefused(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	alice := relay.Register(t).NewDevice(t)
	many := func(n int) []*obscurapb.SharedRecipient {
		return slices.Repeat([]*obscurapb.SharedRecipient{recipient(alice.ID, "")}, n)
	}
	empty := slices.Repeat([]*obscurapb.SharedSubmission{{}}, 2*core.MaxRecipients+1)
	for name, c := range map[string]struct {
		shared []*obscurapb.SharedSubmission
		want   e2e.Refusal
	}{
		"1001 recipients": {[]*obscurapb.SharedSubmission{shared("x", many(500)...), shared("x", many(501)...)},
			e2e.Refusal{Status: http.StatusRequestEntityTooLarge, Code: "too_many_recipients"}},
		"2001 recipients": {[]*obscurapb.SharedSubmission{shared("x", many(2001)...)},
			e2e.Refusal{Status: http.StatusRequestEntityTooLarge, Code: "too_many_recipients"}},
		"2001 without recipients": {empty,
			e2e.Refusal{Status: http.StatusRequestEntityTooLarge, Code: "too_many_recipients"}},
		"4 MiB and a byte": {[]*obscurapb.SharedSubmission{shared(strings.Repeat("x", core.MaxMessage), many(16)...),
			shared("x", many(1)...)}, e2e.Refusal{Status: http.StatusRequestEntityTooLarge, Code: "expanded_too_large"}},
		"a prefix of 257 bytes": {[]*obscurapb.SharedSubmission{shared("x", many(1)...),
			shared("x", recipient(alice.ID, strings.Repeat("x", 257)))},
			e2e.Refusal{Status: http.StatusBadRequest, Code: "prefix_too_large"}},
	} {
		status, body := alice.TryRequest(t, nil, &obscurapb.SendMessageRequest{Shared: c.shared,
			Messages: []*obscurapb.Submission{relaytest.To(alice.ID, "lost")}})
		if got := e2e.RefusalOf(status, body); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	if envelopes, _, _ := alice.Connect(t).Drain(); len(envelopes) != 0 {
		t.Errorf("%d envelopes arrived", len(envelopes))
	}
	// The most that is allowed.
	full := slices.Repeat([]*obscurapb.SharedRecipient{recipient(alice.ID, strings.Repeat("p", 256))},
		core.MaxRecipients)
	if answer := askFor(t, alice, nil, &obscurapb.SendMessageRequest{Shared: []*obscurapb.SharedSubmission{
		shared(strings.Repeat("x", core.MaxExpanded/core.MaxRecipients-256), full...)}}); proto.Size(answer) != 0 {
		t.Errorf("1000 recipients: %v", answer)
	}
}

func TestRecipientsCountAsRequestsOfAHundred(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t, e2e.Limits(3, "sends"))
	alice, bob := relay.Register(t).NewDevice(t), relay.Register(t).NewDevice(t)
	send := func(n int) int {
		status, _ := alice.TryRequest(t, nil, &obscurapb.SendMessageRequest{Shared: []*obscurapb.SharedSubmission{
			shared("x", slices.Repeat([]*obscurapb.SharedRecipient{recipient(bob.ID, "")}, n)...)}})
		return status
	}
	for i, c := range []struct{ recipients, status int }{{100, 200}, {200, 200}, {1, 429}} {
		if got := send(c.recipients); got != c.status {
			t.Errorf("request %d, for %d recipients: %d, want %d", i, c.recipients, got, c.status)
		}
	}
}
