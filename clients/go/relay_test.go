package obscura_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	obscura "github.com/obscura-relay/obscura/clients/go"
	"github.com/obscura-relay/obscura/gen/client"
	"github.com/obscura-relay/obscura/gen/obscurapb"
	"github.com/obscura-relay/obscura/internal/admin"
	"github.com/obscura-relay/obscura/internal/app"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/kit/prekeytest"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

func TestARelayTellsWhoMayRegister(t *testing.T) {
	t.Parallel()
	relay, _ := join(t, relaytest.Start(t), obscura.Options{})
	info, err := relay.Info(t.Context())
	if err != nil || info.Registration != client.RegistrationOpen || info.Limits.MessageBytes != 256<<10 {
		t.Errorf("%+v, %v", info, err)
	}
}

func TestWhoIsNotInvitedDoesNotRegister(t *testing.T) {
	t.Parallel()
	server := relaytest.Start(t, func(cfg *app.Config) { cfg.Registration = core.RegistrationInvite })
	relay, _ := join(t, server, obscura.Options{})
	_, err := relay.RegisterInvited(t.Context(), "somebody", relaytest.Password, "made up")
	if refused := (*obscura.Error)(nil); !errors.As(err, &refused) || refused.Code != "invitation_required" {
		t.Errorf("with one that is made up: %v", err)
	}
	var invitation strings.Builder
	if err := app.Administer(t.Context(), app.Database{DatabaseURL: server.DatabaseURL},
		admin.CreateInvitation{Uses: 1}, false, &invitation, io.Discard); err != nil {
		t.Fatal(err)
	}
	if _, err := relay.RegisterInvited(t.Context(), "somebody", relaytest.Password,
		strings.TrimSpace(invitation.String())); err != nil {
		t.Error(err)
	}
}

func TestFromRegistrationToAnAcknowledgedMessage(t *testing.T) {
	t.Parallel()
	for name, ticket := range map[string]bool{"by token": false, "by ticket": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			relay, _ := join(t, relaytest.Start(t), obscura.Options{UseTicket: ticket})
			alice, bob := newDevice(t, relay), newDevice(t, relay)
			bundles, err := alice.Bundles(t.Context(), bob.UserID())
			if err != nil || len(bundles) != 1 || bundles[0].DeviceID != bob.DeviceID() ||
				bundles[0].DeviceNumber != bob.DeviceNumber() {
				t.Fatalf("bundles: %v, %v", bundles, err)
			}
			before := time.Now().Truncate(time.Millisecond)
			send(t, alice, bob, "hello")
			next := listen(t, t.Context(), bob.Gateway())
			status, _ := next()
			if s, ok := status.(*obscura.PreKeyStatus); !ok ||
				*s != (obscura.PreKeyStatus{OneTime: 4, Kyber: 1, Threshold: 20}) {
				t.Errorf("first came %+v", status)
			}
			e := nextEnvelope(t, next) // perhaps after another status: the fetch of the bundle is told as well
			if string(e.Message) != "hello" || e.Sequence != 1 || e.SenderID != alice.UserID() ||
				e.SenderDeviceID != alice.DeviceID() ||
				e.SenderDeviceNumber != 1 || e.Accepted.Before(before) || e.Accepted.After(time.Now()) {
				t.Fatalf("the envelope: %+v", e)
			}
			if drained, _ := next(); *drained.(*obscura.Drained) != (obscura.Drained{Sequence: 1}) {
				t.Errorf("then %+v", drained)
			}
			send(t, alice, bob, "live")
			if e := nextEnvelope(t, next); string(e.Message) != "live" {
				t.Errorf("then %+v", e)
			}
		})
	}
}

func TestWhatWasAcknowledgedBeforeTheEndIsGone(t *testing.T) {
	t.Parallel()
	relay, _ := join(t, relaytest.Start(t), obscura.Options{})
	alice, bob := newDevice(t, relay), newDevice(t, relay)
	for _, text := range []string{"one", "two", "three"} {
		send(t, alice, bob, text)
	}
	for event, err := range bob.Gateway().Events(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if sequence(event) == 2 { // acknowledged and left at once
			bob.Gateway().Acknowledge(event.(*obscura.Envelope))
			break
		}
	}
	again, err := relay.Resume(bob.Tokens()) // a new program, which remembers nothing
	if err != nil {
		t.Fatal(err)
	}
	pending(t, again, 2)
	if got := inbox(t, again); !slices.Equal(got, []string{"one", "three"}) {
		t.Errorf("%q are left, want one and three", got)
	}
	pending(t, again, 0)
}

func TestASubmissionThatFailsDoesNotStopTheOthers(t *testing.T) {
	t.Parallel()
	relay, _ := join(t, relaytest.Start(t), obscura.Options{})
	alice, bob := newDevice(t, relay), newDevice(t, relay)
	nobody := obscura.Submission{ID: uuid.New(), DeviceID: uuid.New(), Message: []byte("hello?")}
	failed, err := alice.Send(t.Context(),
		obscura.NewBatch(nobody, obscura.Submission{DeviceID: bob.DeviceID(), Message: []byte("hello")}))
	if err != nil || len(failed) != 1 || failed[0].ID != nobody.ID || failed[0].Message == "" ||
		failed[0].Code != obscurapb.ErrorCode_ERROR_CODE_INVALID_DEVICE {
		t.Errorf("failed: %+v, %v", failed, err)
	}
	if got := inbox(t, bob); !slices.Equal(got, []string{"hello"}) {
		t.Errorf("the other received %q", got)
	}
}

func TestQuietMailArrivesAsAnyOther(t *testing.T) {
	t.Parallel()
	relay, network := join(t, relaytest.Start(t), obscura.Options{})
	alice, bob := newDevice(t, relay), newDevice(t, relay)
	var request obscurapb.SendMessageRequest
	network.failing(func(r *http.Request) verdict {
		if r.URL.Path == "/v1/messages" {
			body, err := r.GetBody()
			if err != nil {
				t.Error(err)
				return passed
			}
			if sent, err := io.ReadAll(body); err != nil || proto.Unmarshal(sent, &request) != nil {
				t.Error("the request cannot be read")
			}
		}
		return passed
	})
	batch := obscura.NewBatch(obscura.Submission{DeviceID: bob.DeviceID(), Message: []byte("typing"), Quiet: true},
		obscura.Submission{DeviceID: bob.DeviceID(), Message: []byte("hello")})
	shared := obscura.NewShared([]byte("read"), obscura.SharedRecipient{DeviceID: bob.DeviceID()})
	shared.Quiet = true
	batch.Shared = []obscura.SharedSubmission{shared}
	failed, err := alice.Send(t.Context(), batch)
	if err != nil || len(failed) != 0 {
		t.Fatalf("send: %v, %v", failed, err)
	}
	if m := request.GetMessages(); len(m) != 2 || !m[0].GetQuiet() || m[1].GetQuiet() ||
		!request.GetShared()[0].GetQuiet() {
		t.Errorf("%v", &request)
	}
	if got := inbox(t, bob); !slices.Equal(got, []string{"typing", "hello", "read"}) {
		t.Errorf("%q", got)
	}
}

func TestABatchThatWasSentBeforeACrashIsNotStoredTwice(t *testing.T) {
	t.Parallel()
	relay, network := join(t, relaytest.Start(t), obscura.Options{})
	alice, bob := newDevice(t, relay), newDevice(t, relay)
	batch := obscura.NewBatch(obscura.Submission{DeviceID: bob.DeviceID(), Message: []byte("hello")})
	stored, err := json.Marshal(batch)
	if err != nil {
		t.Fatal(err)
	}
	fates := []verdict{notApplied, applied, passed}
	keys := make(map[string]bool)
	network.failing(func(r *http.Request) verdict {
		if r.URL.Path != "/v1/messages" {
			return passed
		}
		keys[r.Header.Get("Idempotency-Key")] = true
		fate := fates[0]
		fates = fates[1:]
		return fate
	})
	if failed, err := alice.Send(t.Context(), batch); err != nil || len(failed) != 0 || len(fates) != 0 {
		t.Fatalf("send: %v, %v, %d failures to come", failed, err, len(fates))
	}
	network.failing(nil)
	var after obscura.Batch
	if err := json.Unmarshal(stored, &after); err != nil {
		t.Fatal(err)
	}
	restarted, err := relay.Resume(alice.Tokens())
	if err != nil {
		t.Fatal(err)
	}
	if failed, err := restarted.Send(t.Context(), after); err != nil || len(failed) != 0 {
		t.Fatalf("send: %v, %v", failed, err)
	}
	if got := inbox(t, bob); !slices.Equal(got, []string{"hello"}) || len(keys) != 1 {
		t.Errorf("received %q under %d keys, want it once under one", got, len(keys))
	}
}

func TestKeysAreRefilledAndTakenOver(t *testing.T) {
	t.Parallel()
	relay, _ := join(t, relaytest.Start(t), obscura.Options{})
	alice, bob := newDevice(t, relay), newDevice(t, relay)
	send(t, alice, bob, "nobody will read this")
	next := listen(t, t.Context(), bob.Gateway())
	nextEnvelope(t, next)
	identity := prekeytest.NewIdentity()
	registration := int32(7)
	signed := identity.SignedPreKey(1)
	err := bob.UploadKeys(t.Context(), client.KeyUpload{IdentityKey: &identity.Public, RegistrationID: &registration,
		SignedPreKey: &signed, OneTimePreKeys: prekeytest.PreKeys(1, 30)})
	if err != nil {
		t.Fatal(err)
	}
	var seen []obscura.Event
	for len(seen) == 0 || !isDrained(seen[len(seen)-1]) || len(seen) < 4 {
		event, err := next()
		if err != nil {
			t.Fatal(err)
		}
		seen = append(seen, event)
	}
	i := slices.IndexFunc(seen, func(e obscura.Event) bool { _, gone := e.(*obscura.Disconnected); return gone })
	if i < 0 {
		t.Fatalf("the socket was not closed: %v", seen)
	}
	var e *obscura.Error
	if gone := seen[i].(*obscura.Disconnected); !errors.As(gone.Err, &e) || e.Status != 4401 {
		t.Errorf("the socket was closed with %v", gone.Err)
	}
	if status, ok := seen[i+1].(*obscura.PreKeyStatus); !ok || status.OneTime != 30 {
		t.Errorf("then %+v", seen[i+1])
	}
	if gap, ok := seen[i+2].(*obscura.Gap); !ok ||
		*gap != (obscura.Gap{From: 1, To: 1, Reason: obscurapb.Gap_REASON_TAKEOVER}) {
		t.Errorf("then %+v", seen[i+2])
	}
	if keys, err := bob.Keys(t.Context()); err != nil || !slices.Equal(keys.IdentityKey, identity.Public) ||
		keys.OneTimePreKeyCount != 30 {
		t.Errorf("the relay holds %+v, %v", keys, err)
	}
}

func isDrained(e obscura.Event) bool { _, is := e.(*obscura.Drained); return is }

func TestAnErrorOfTheRelayIsToldWhole(t *testing.T) {
	t.Parallel()
	relay, _ := join(t, relaytest.Start(t), obscura.Options{})
	name, user := register(t, relay)
	var e *obscura.Error
	if _, err := relay.Register(t.Context(), name, password); !errors.As(err, &e) || e.Status != 409 ||
		e.Code != "username_taken" || e.Message == "" || e.RequestID == "" {
		t.Errorf("a taken name: %v", err)
	}
	if _, err := user.Send(t.Context(), batch()); !errors.As(err, &e) || e.Status != 403 ||
		e.Code != "device_required" {
		t.Errorf("sending without a device: %v", err)
	}
	if _, err := listen(t, t.Context(), user.Gateway())(); !errors.As(err, &e) || e.Status != 403 ||
		e.Code != "device_required" {
		t.Errorf("receiving without a device: %v", err)
	}
	if _, err := relay.LogIn(t.Context(), name, "not the password", uuid.Nil); !errors.As(err, &e) ||
		e.Code != "wrong_credentials" {
		t.Errorf("a wrong password: %v", err)
	}
}
