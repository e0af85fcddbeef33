package obscura_test

import (
	"strings"
	"testing"

	"github.com/google/uuid"

	obscura "github.com/obscura-relay/obscura/clients/go"
	"github.com/obscura-relay/obscura/internal/kit/prekeytest"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
	"github.com/obscura-relay/obscura/internal/kit/wait"
)

const password = relaytest.Password

func freshName() string { return "user_" + strings.ReplaceAll(uuid.NewString(), "-", "")[:20] }

// register makes a user.
func register(t *testing.T, relay *obscura.Relay) (name string, user *obscura.Session) {
	t.Helper()
	name = freshName()
	user, err := relay.Register(t.Context(), name, password)
	if err != nil {
		t.Fatal(err)
	}
	return name, user
}

// newDevice makes a user with a device.
func newDevice(t *testing.T, relay *obscura.Relay) *obscura.Session {
	t.Helper()
	_, user := register(t, relay)
	device, err := user.AddDevice(t.Context(), prekeytest.NewIdentity().NewDevice(5, 2))
	if err != nil {
		t.Fatal(err)
	}
	return device
}

// send sends a text to a device.
func send(t *testing.T, from, to *obscura.Session, text string) {
	t.Helper()
	failed, err := from.Send(t.Context(),
		obscura.NewBatch(obscura.Submission{DeviceID: to.DeviceID(), Message: []byte(text)}))
	if err != nil || len(failed) != 0 {
		t.Fatalf("send: %v, %v", failed, err)
	}
}

// inbox opens the gateway, acknowledges what waits and returns the texts.
func inbox(t *testing.T, s *obscura.Session) (texts []string) {
	t.Helper()
	for event, err := range s.Gateway().Events(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		switch e := event.(type) {
		case *obscura.Envelope:
			texts = append(texts, string(e.Message))
			s.Gateway().Acknowledge(e)
		case *obscura.Drained:
			return texts
		}
	}
	return texts
}

// nextEnvelope receives until an envelope comes.
func nextEnvelope(t *testing.T, next func() (obscura.Event, error)) *obscura.Envelope {
	t.Helper()
	for {
		event, err := next()
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := event.(*obscura.Envelope); ok {
			return e
		}
	}
}

// pending waits until the relay holds n envelopes for the only device of a user: it works on
// acknowledgements in the background.
func pending(t *testing.T, s *obscura.Session, n int32) {
	t.Helper()
	wait.Eventually(t, "what was acknowledged is gone", func() bool {
		account, err := s.API().GetAccountWithResponse(t.Context())
		return err == nil && account.JSON200 != nil && account.JSON200.Devices[0].Mailbox.Pending == n
	})
}
