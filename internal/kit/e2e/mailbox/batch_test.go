package mailbox_test

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/obscura-relay/obscura/gen/obscurapb"
	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

func TestSubmissionsFailOneByOneAndTheOthersAreStored(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	alice, bob := relay.Register(t).NewDevice(t), relay.Register(t).NewDevice(t)
	nobody := relaytest.To(uuid.New(), "lost")
	zero := relaytest.To(uuid.Nil, "lost")
	account := relaytest.To(bob.User.ID, "a user is not a device")
	shortDevice, longDevice, noDevice := relaytest.To(bob.ID, "x"), relaytest.To(bob.ID, "x"), relaytest.To(bob.ID, "x")
	shortDevice.DeviceId, longDevice.DeviceId, noDevice.DeviceId = bob.ID[:15], append(bob.ID[:], 1), nil
	shortID, longID, noID := relaytest.To(bob.ID, "x"), relaytest.To(bob.ID, "x"), relaytest.To(bob.ID, "x")
	shortID.SubmissionId, longID.SubmissionId, noID.SubmissionId = shortID.SubmissionId[:15],
		append(longID.SubmissionId, 1), nil
	empty, large := relaytest.To(bob.ID, ""), relaytest.To(bob.ID, strings.Repeat("x", 256<<10+1))
	batch := []*obscurapb.Submission{relaytest.To(bob.ID, "first"), nobody, zero, account, shortDevice, longDevice,
		relaytest.To(bob.ID, "second"), noDevice, shortID, longID, noID, empty, large, {},
		relaytest.To(bob.ID, "third")}
	want := []struct {
		code obscurapb.ErrorCode
		id   []byte
	}{
		{obscurapb.ErrorCode_ERROR_CODE_INVALID_DEVICE, nobody.SubmissionId},
		{obscurapb.ErrorCode_ERROR_CODE_INVALID_DEVICE, zero.SubmissionId},
		{obscurapb.ErrorCode_ERROR_CODE_INVALID_DEVICE, account.SubmissionId},
		{obscurapb.ErrorCode_ERROR_CODE_MALFORMED_DEVICE_ID, shortDevice.SubmissionId},
		{obscurapb.ErrorCode_ERROR_CODE_MALFORMED_DEVICE_ID, longDevice.SubmissionId},
		{obscurapb.ErrorCode_ERROR_CODE_MALFORMED_DEVICE_ID, noDevice.SubmissionId},
		// A malformed id is not repeated: obscura.proto says that it is left empty.
		{obscurapb.ErrorCode_ERROR_CODE_MALFORMED_SUBMISSION_ID, nil},
		{obscurapb.ErrorCode_ERROR_CODE_MALFORMED_SUBMISSION_ID, nil},
		{obscurapb.ErrorCode_ERROR_CODE_MALFORMED_SUBMISSION_ID, nil},
		{obscurapb.ErrorCode_ERROR_CODE_MESSAGE_MISSING, empty.SubmissionId},
		{obscurapb.ErrorCode_ERROR_CODE_MESSAGE_TOO_LARGE, large.SubmissionId},
		{obscurapb.ErrorCode_ERROR_CODE_MALFORMED_SUBMISSION_ID, nil},
	}
	failed := alice.Send(t, nil, batch...)
	if len(failed) != len(want) {
		t.Fatalf("%d failed, want %d: %v", len(failed), len(want), failed)
	}
	for i, w := range want {
		if f := failed[i]; f.GetErrorCode() != w.code || !bytes.Equal(f.GetSubmissionId(), w.id) ||
			f.GetErrorMessage() == "" {
			t.Errorf("failure %d is %v, want code %v and id %x", i, f, w.code, w.id)
		}
	}
	backlog, _, _ := bob.Connect(t).Drain()
	if e2e.Texts(backlog) != "first second third" {
		t.Errorf("stored: %s", e2e.Texts(backlog))
	}
	e2e.InOrder(t, backlog, 1)
}

func TestAnEmptyBatchIsStoredAtOnce(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	alice := relay.Register(t).NewDevice(t)
	key := uuid.New()
	for range 2 {
		if failed := alice.Send(t, nil); len(failed) != 0 {
			t.Errorf("failed: %v", failed)
		}
		if failed := alice.Send(t, &key); len(failed) != 0 {
			t.Errorf("failed: %v", failed)
		}
	}
}

func TestABatchWithoutAnythingToStoreIsNeverTakenForAnother(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	alice, bob := relay.Register(t).NewDevice(t), relay.Register(t).NewDevice(t)
	for _, text := range []string{"one", "other"} { // the derived keys are the same
		malformed := relaytest.To(bob.ID, text)
		malformed.SubmissionId = nil
		failed := alice.Send(t, nil, malformed)
		if len(failed) != 1 || failed[0].GetErrorCode() != obscurapb.ErrorCode_ERROR_CODE_MALFORMED_SUBMISSION_ID {
			t.Errorf("failed: %v", failed)
		}
	}
}

func TestARequestCarriesAtMost100Submissions(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	alice, bob := relay.Register(t).NewDevice(t), relay.Register(t).NewDevice(t)
	batch := make([]*obscurapb.Submission, 101)
	for i := range batch {
		batch[i] = relaytest.To(bob.ID, "x")
	}
	if status, answer := alice.TrySend(t, nil, batch...); status != http.StatusRequestEntityTooLarge ||
		!strings.Contains(string(answer), "too_many_submissions") {
		t.Errorf("101: status %d, %s", status, answer)
	}
	if failed := alice.Send(t, nil, batch[:100]...); len(failed) != 0 {
		t.Errorf("100: %v", failed)
	}
	backlog, _, last := bob.Connect(t).Drain()
	if e2e.InOrder(t, backlog, 1); last != 100 || len(backlog) != 100 {
		t.Errorf("%d of %d stored", len(backlog), last)
	}
}

func TestAMessageHasAtMost256KiBAndARequest2MiB(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	alice, bob := relay.Register(t).NewDevice(t), relay.Register(t).NewDevice(t)
	largest := strings.Repeat("m", 256<<10)
	if failed := alice.Send(t, nil, relaytest.To(bob.ID, largest)); len(failed) != 0 {
		t.Fatalf("256 KiB: %v", failed)
	}
	// Seven of the largest, and one that fills the body to the byte.
	var batch []*obscurapb.Submission
	for range 7 {
		batch = append(batch, relaytest.To(bob.ID, largest))
	}
	last := relaytest.To(bob.ID, "")
	fill := func(total int) []byte {
		for size := 200 << 10; ; size++ {
			last.Message = make([]byte, size)
			body, err := proto.Marshal(&obscurapb.SendMessageRequest{Messages: append(batch, last)})
			if err != nil || len(body) > total {
				t.Fatalf("the body cannot be made %d bytes: %v", total, err)
			}
			if size += total - len(body) - 1; len(body) == total {
				return body
			}
		}
	}
	if status, answer := post(t, relay, "/v1/messages", alice.Token, "application/x-protobuf",
		bytes.NewReader(fill(2<<20))); status != http.StatusOK || answer != "" {
		t.Errorf("2 MiB: status %d, %q", status, answer)
	}
	for _, n := range []int{2<<20 + 1, 10 << 20} {
		status, answer := post(t, relay, "/v1/messages", alice.Token, "application/x-protobuf",
			bytes.NewReader(make([]byte, n)))
		if status != http.StatusRequestEntityTooLarge || !strings.Contains(answer, "body_too_large") {
			t.Errorf("%d bytes: status %d, %s", n, status, answer)
		}
	}
	backlog, _, _ := bob.Connect(t).Drain()
	if len(backlog) != 9 || string(backlog[0].GetMessage()) != largest ||
		len(backlog[8].GetMessage()) != len(last.GetMessage()) {
		t.Errorf("%d messages arrived", len(backlog))
	}
}

func TestAMalformedSendIsRefused(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	user := relay.Register(t)
	alice := user.NewDevice(t)
	const protobuf = "application/x-protobuf"
	for _, c := range []struct {
		name, token, media, body string
		status                   int
		code                     string
	}{
		{"garbage", alice.Token, protobuf, "\xff\xff\xff\xff", 400, "invalid_protobuf"},
		{"a truncated message", alice.Token, protobuf, "\x0a\x7f\x0a", 400, "invalid_protobuf"},
		{"JSON as protobuf", alice.Token, protobuf, `{"messages":[]}`, 400, "invalid_protobuf"},
		{"a JSON media type", alice.Token, "application/json", "{}", 415, "unsupported_media_type"},
		{"a form", alice.Token, "application/x-www-form-urlencoded", "a=b", 415, "unsupported_media_type"},
		{"no media type", alice.Token, "", "", 415, "unsupported_media_type"},
		{"a parameter of the media type", alice.Token, protobuf + "; charset=binary", "", 200, ""},
		{"a user-scoped token", user.Token, protobuf, "", 403, "device_required"},
		{"a bad token", "nonsense", protobuf, "", 401, "unauthorized"},
	} {
		status, answer := post(t, relay, "/v1/messages", c.token, c.media, strings.NewReader(c.body))
		if status != c.status || !strings.Contains(answer, c.code) {
			t.Errorf("%s: status %d, %s", c.name, status, answer)
		}
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, relay.API+"/v1/messages",
		strings.NewReader(""))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+alice.Token)
	request.Header.Set("Content-Type", protobuf)
	request.Header.Set("Idempotency-Key", "not a uuid")
	response, err := relay.HTTP().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusBadRequest {
		t.Errorf("an idempotency key that is not a UUID: status %d", response.StatusCode)
	}
}

// post sends a body as it is and returns status and body of the answer.
func post(t testing.TB, relay *relaytest.Relay, path, token, contentType string, body io.Reader) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, relay.API+path, body)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+token)
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	response, err := relay.HTTP().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(answer)
}
