package relaytest

import (
	"bytes"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	obscura "github.com/obscura-relay/obscura/clients/go"
	"github.com/obscura-relay/obscura/gen/client"
	"github.com/obscura-relay/obscura/gen/obscurapb"
	"github.com/obscura-relay/obscura/internal/kit/prekeytest"
)

// Password is every test user's.
const Password = "correct horse battery staple"

// User is a registered user.
type User struct {
	*client.ClientWithResponses
	Name string
	ID   uuid.UUID
	// Token and Refresh are the user-scoped pair of the registration.
	Token, Refresh string
	// Session acts with the same pair as an application does: see clients/go.
	Session *obscura.Session

	relay *Relay
}

// Register registers a user with a name of its own.
func (r *Relay) Register(t testing.TB) *User {
	t.Helper()
	name := "user_" + strings.ReplaceAll(uuid.NewString(), "-", "")[:20]
	session, err := r.entrance(t).Register(t.Context(), name, Password)
	if err != nil {
		t.Fatalf("register: %v", err)
	}
	pair := session.Tokens()
	return &User{ClientWithResponses: r.Client(pair.Token), Name: name, ID: session.UserID(),
		Token: pair.Token, Refresh: pair.RefreshToken, Session: session, relay: r}
}

func body(got any) []byte {
	if b, ok := got.(interface{ GetBody() []byte }); ok {
		return b.GetBody()
	}
	return nil
}

// Device is a registered device with its secrets.
type Device struct {
	// ClientWithResponses acts with the device-scoped token, once, whatever the answer.
	*client.ClientWithResponses
	// Session acts as an application does: see clients/go.
	Session        *obscura.Session
	User           *User
	ID             uuid.UUID
	Number         int32
	Token, Refresh string
	Identity       *prekeytest.Identity
	RegistrationID int

	relay *Relay
}

// NewDevice registers a device with a few keys: EC 1 to 5, Kyber 1 to 2, last-resort 1.
func (u *User) NewDevice(t testing.TB) *Device {
	t.Helper()
	identity := prekeytest.NewIdentity()
	return u.NewDeviceWith(t, identity, identity.NewDevice(5, 2))
}

// NewDeviceWith registers a device with a given upload.
func (u *User) NewDeviceWith(t testing.TB, identity *prekeytest.Identity, upload client.NewDevice) *Device {
	t.Helper()
	session, err := u.Session.AddDevice(t.Context(), upload)
	if err != nil {
		t.Fatalf("new device: %v", err)
	}
	pair := session.Tokens()
	return &Device{ClientWithResponses: u.relay.Client(pair.Token), Session: session, User: u, ID: session.DeviceID(),
		Number: session.DeviceNumber(), Token: pair.Token, Refresh: pair.RefreshToken,
		Identity: identity, RegistrationID: int(upload.RegistrationID), relay: u.relay}
}

// On returns the same device as a client of another node.
func (d *Device) On(r *Relay) *Device {
	other := *d
	other.relay, other.ClientWithResponses = r, r.Client(d.Token)
	session, err := r.entrance(r.t).Resume(obscura.Tokens{Token: d.Token, RefreshToken: d.Refresh, DeviceID: &d.ID,
		DeviceNumber: &d.Number})
	if err != nil {
		r.t.Fatal(err)
	}
	other.Session = session
	return &other
}

// To makes a submission.
func To(device uuid.UUID, message string) *obscurapb.Submission {
	id := uuid.New()
	return &obscurapb.Submission{SubmissionId: id[:], DeviceId: device[:], Message: []byte(message)}
}

// Send sends submissions and returns those that failed; key may be nil.
func (d *Device) Send(t testing.TB, key *uuid.UUID,
	submissions ...*obscurapb.Submission) []*obscurapb.FailedSubmission {
	t.Helper()
	status, answer := d.TrySend(t, key, submissions...)
	if status != http.StatusOK {
		t.Fatalf("send: status %d, %s", status, answer)
	}
	var response obscurapb.SendMessageResponse
	if err := proto.Unmarshal(answer, &response); err != nil {
		t.Fatal(err)
	}
	return response.GetFailedSubmissions()
}

// TrySend sends submissions and returns status and body of the answer.
func (d *Device) TrySend(t testing.TB, key *uuid.UUID, submissions ...*obscurapb.Submission) (status int,
	answer []byte) {
	t.Helper()
	return d.TryRequest(t, key, &obscurapb.SendMessageRequest{Messages: submissions})
}

// TryRequest sends a request and returns status and body of the answer.
func (d *Device) TryRequest(t testing.TB, key *uuid.UUID, send *obscurapb.SendMessageRequest) (status int,
	answer []byte) {
	t.Helper()
	request, err := proto.Marshal(send)
	if err != nil {
		t.Fatal(err)
	}
	params := &client.SendMessagesParams{}
	if key != nil {
		text := key.String()
		params.IdempotencyKey = &text
	}
	got, err := d.SendMessagesWithBodyWithResponse(t.Context(), params,
		"application/x-protobuf", bytes.NewReader(request))
	if err != nil {
		t.Fatal(err)
	}
	return got.StatusCode(), got.Body
}
