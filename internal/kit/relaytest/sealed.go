package relaytest

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"net/http"
	"testing"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/obscura-relay/obscura/gen/client"
	"github.com/obscura-relay/obscura/gen/obscurapb"
)

// DeliveryToken makes 32 random bytes.
func DeliveryToken() []byte {
	token := make([]byte, 32)
	_, _ = rand.Read(token) // it does not fail
	return token
}

// HashOf is what the relay knows of a delivery token.
func HashOf(token []byte) []byte {
	sum := sha256.Sum256(token)
	return sum[:]
}

// NewDeliveryToken makes a token and adds it for the device's user.
func (d *Device) NewDeliveryToken(t testing.TB) []byte {
	t.Helper()
	token := DeliveryToken()
	got, err := d.ChangeDeliveryTokensWithResponse(t.Context(), client.DeliveryTokenChange{
		Add: []client.NewDeliveryToken{{Hash: HashOf(token)}}})
	if err != nil || got.StatusCode() != http.StatusOK {
		t.Fatalf("delivery token: %v, %s", err, got.Body)
	}
	return token
}

// RemoveDeliveryToken removes a token.
func (d *Device) RemoveDeliveryToken(t testing.TB, token []byte) {
	t.Helper()
	got, err := d.ChangeDeliveryTokensWithResponse(t.Context(),
		client.DeliveryTokenChange{Remove: [][]byte{HashOf(token)}})
	if err != nil || got.StatusCode() != http.StatusOK {
		t.Fatalf("remove: %v, %s", err, got.Body)
	}
}

// Sealed makes a submission that shows a delivery token.
func Sealed(device uuid.UUID, message string, token []byte) *obscurapb.Submission {
	submission := To(device, message)
	submission.DeliveryToken = token
	return submission
}

// SendSealed sends submissions unnamed and returns those that failed.
func (r *Relay) SendSealed(t testing.TB, key uuid.UUID,
	submissions ...*obscurapb.Submission) []*obscurapb.FailedSubmission {
	t.Helper()
	status, answer := r.TrySealed(t, key, &obscurapb.SendMessageRequest{Messages: submissions})
	if status != http.StatusOK {
		t.Fatalf("sealed send: status %d, %s", status, answer)
	}
	var response obscurapb.SendMessageResponse
	if err := proto.Unmarshal(answer, &response); err != nil {
		t.Fatal(err)
	}
	return response.GetFailedSubmissions()
}

// TrySealed sends a request unnamed and returns status and body of the answer.
func (r *Relay) TrySealed(t testing.TB, key uuid.UUID, send *obscurapb.SendMessageRequest) (status int, answer []byte) {
	t.Helper()
	request, err := proto.Marshal(send)
	if err != nil {
		t.Fatal(err)
	}
	got, err := r.Client("").SendSealedMessagesWithBodyWithResponse(t.Context(),
		&client.SendSealedMessagesParams{IdempotencyKey: key.String()}, "application/x-protobuf",
		bytes.NewReader(request))
	if err != nil {
		t.Fatal(err)
	}
	return got.StatusCode(), got.Body
}
