package sealed_test

import (
	"bytes"
	"encoding/base64"
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

func unnamed(e *obscurapb.Envelope) bool {
	return e.SenderId == nil && e.SenderDeviceId == nil && e.SenderDeviceNumber == 0
}

func TestASealedEnvelopeArrivesWithoutASender(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	alice, bob := relay.Register(t).NewDevice(t), relay.Register(t).NewDevice(t)
	token := bob.NewDeliveryToken(t)
	socket := bob.Connect(t)
	socket.Drain()
	for _, when := range []string{"connected", "later"} {
		if failed := relay.SendSealed(t, uuid.New(), relaytest.Sealed(bob.ID, "sealed "+when, token)); len(failed) != 0 {
			t.Fatalf("failed: %v", failed)
		}
		alice.Send(t, nil, relaytest.To(bob.ID, "named "+when))
		if when == "later" {
			socket = bob.Connect(t)
		}
		got := socket.Envelopes(2)
		if e2e.Texts(got) != "sealed "+when+" named "+when || !unnamed(got[0]) || unnamed(got[1]) ||
			string(got[1].GetSenderId()) != string(alice.User.ID[:]) || len(got[0].GetId()) != 16 {
			t.Errorf("%s: %v", when, got)
		}
		socket.Ack(got...)
		e2e.Disconnect(socket)
		e2e.Pending(t, e2e.Database(t, relay), bob.ID, 0)
	}
}

// What must be refused is refused alike, and leaves nothing behind.
func TestARefusedSubmissionSaysNotWhy(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	bob, carol := relay.Register(t).NewDevice(t), relay.Register(t).NewDevice(t)
	good, carols, removed := bob.NewDeliveryToken(t), carol.NewDeliveryToken(t), bob.NewDeliveryToken(t)
	expired := bob.NewDeliveryToken(t)
	bob.RemoveDeliveryToken(t, removed)
	db := e2e.Database(t, relay)
	e2e.Change(t, db, "UPDATE delivery_tokens SET expires_at = now() WHERE hash = $1", relaytest.HashOf(expired))
	for what, sub := range map[string]*obscurapb.Submission{
		"a wrong token":                     relaytest.Sealed(bob.ID, "x", relaytest.DeliveryToken()),
		"no token":                          relaytest.Sealed(bob.ID, "x", nil),
		"a token of 31 bytes":               relaytest.Sealed(bob.ID, "x", good[:31]),
		"a token of 33 bytes":               relaytest.Sealed(bob.ID, "x", append(slices.Clone(good), 0)),
		"another user's token":              relaytest.Sealed(bob.ID, "x", carols),
		"another user's device":             relaytest.Sealed(carol.ID, "x", good),
		"a removed token":                   relaytest.Sealed(bob.ID, "x", removed),
		"an expired token":                  relaytest.Sealed(bob.ID, "x", expired),
		"an unknown device":                 relaytest.Sealed(uuid.New(), "x", good),
		"an unknown device and wrong token": relaytest.Sealed(uuid.New(), "x", relaytest.DeliveryToken()),
		"the hash in place of the token":    relaytest.Sealed(bob.ID, "x", relaytest.HashOf(good)),
	} {
		failed := relay.SendSealed(t, uuid.New(), sub)
		if len(failed) != 1 || failed[0].GetErrorCode() != obscurapb.ErrorCode_ERROR_CODE_REFUSED ||
			failed[0].GetErrorMessage() != "The delivery token does not open a device of this id." ||
			!bytes.Equal(failed[0].GetSubmissionId(), sub.GetSubmissionId()) {
			t.Errorf("%s: %v", what, failed)
		}
	}
	if n := e2e.Count(t, db, "SELECT count(*) FROM receipts"); n != 0 {
		t.Errorf("%d receipts of what was refused", n)
	}
	// One that is refused does not hold up the others of its request.
	failed := relay.SendSealed(t, uuid.New(), relaytest.Sealed(carol.ID, "refused", good),
		relaytest.Sealed(bob.ID, "stored", good), relaytest.Sealed(carol.ID, "stored too", carols))
	if len(failed) != 1 || failed[0].GetErrorCode() != obscurapb.ErrorCode_ERROR_CODE_REFUSED {
		t.Errorf("a mixed request: %v", failed)
	}
	if n := e2e.Count(t, db, "SELECT count(*) FROM messages"); n != 2 {
		t.Errorf("%d envelopes are stored, want 2", n)
	}
	// One, and where there are several buckets and it was stored in parts, one for each part.
	if n := e2e.Count(t, db, `SELECT count(*) - CASE WHEN bool_or(claim) AND (SELECT count(*) FROM buckets) > 1
		THEN (SELECT count(DISTINCT bucket) FROM messages) ELSE 0 END FROM receipts`); n != 1 {
		t.Errorf("%d receipts, want 1", n)
	}
}

func TestAnIdentifiedRequestIsRefused(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	alice, bob := relay.Register(t).NewDevice(t), relay.Register(t).NewDevice(t)
	token := bob.NewDeliveryToken(t)
	body, err := proto.Marshal(&obscurapb.SendMessageRequest{
		Messages: []*obscurapb.Submission{relaytest.Sealed(bob.ID, "x", token)}})
	if err != nil {
		t.Fatal(err)
	}
	ask := e2e.Ask{Method: "POST", Path: "/v1/messages/sealed", Media: "application/x-protobuf", Body: string(body),
		Header: map[string]string{"Idempotency-Key": uuid.NewString()}}
	named := ask
	named.Token = alice.Token
	named.To(t, relay).Want(t, 400, "identified_request")
	named.Token = "not even a token"
	named.To(t, relay).Want(t, 400, "identified_request")
	// The header may be there twice, and its first line empty.
	for path, method := range map[string]string{"/v1/messages/sealed": "POST", "/v1/users/" + bob.User.ID.String(): "GET"} {
		request, err := http.NewRequestWithContext(t.Context(), method, relay.API+path, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		request.Header = http.Header{"Authorization": {"", "Bearer " + alice.Token},
			"Content-Type": {"application/x-protobuf"}, "Idempotency-Key": {uuid.NewString()},
			"Delivery-Token": {base64.RawURLEncoding.EncodeToString(token)}}
		answer, err := relay.HTTP().Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		if answer.StatusCode != http.StatusBadRequest {
			t.Errorf("%s with an empty and a full Authorization: %d", path, answer.StatusCode)
		}
	}
	// The other way round: a careless client that names itself and shows a token.
	named = ask
	named.Path, named.Token = "/v1/messages", alice.Token
	named.To(t, relay).Want(t, 400, "identified_request")
	keyless := ask
	keyless.Header = nil
	if got := keyless.To(t, relay).Want(t, 400, "invalid_request"); got.Sentence !=
		"The header Idempotency-Key is missing." {
		t.Errorf("%q", got.Sentence)
	}
	keyless.Header = map[string]string{"Idempotency-Key": "x"}
	keyless.To(t, relay).Want(t, 400, "invalid_request")
	large := ask
	large.Body = strings.Repeat("x", core.MaxSendBody+1)
	large.To(t, relay).Want(t, 413, "body_too_large")
	large.Body = strings.Repeat("\xff", 5000)
	large.To(t, relay).Want(t, 400, "invalid_protobuf")
	large.Media = "application/json"
	large.To(t, relay).Want(t, 415, "unsupported_media_type")
	if n := e2e.Count(t, e2e.Database(t, relay), "SELECT count(*) FROM messages"); n != 0 {
		t.Errorf("%d envelopes are stored", n)
	}
	ask.To(t, relay).Want(t, 200, "")
}

func TestASealedBatchIsStoredOnce(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	bob, carol := relay.Register(t).NewDevice(t), relay.Register(t).NewDevice(t)
	token, carols := bob.NewDeliveryToken(t), carol.NewDeliveryToken(t)
	key := uuid.New()
	request := &obscurapb.SendMessageRequest{Messages: []*obscurapb.Submission{
		relaytest.Sealed(bob.ID, "once", token), relaytest.Sealed(uuid.New(), "never", token)}}
	status, first := relay.TrySealed(t, key, request)
	if status != http.StatusOK {
		t.Fatalf("%d %s", status, first)
	}
	bob.RemoveDeliveryToken(t, token) // the answer was lost, and the token has gone since
	if status, again := relay.TrySealed(t, key, request); status != http.StatusOK || !bytes.Equal(again, first) {
		t.Errorf("repeated: %d %x, want %x", status, again, first)
	}
	token = bob.NewDeliveryToken(t)
	one := &obscurapb.SendMessageRequest{Messages: []*obscurapb.Submission{relaytest.Sealed(bob.ID, "one", token)}}
	if status, answer := relay.TrySealed(t, key, one); status != http.StatusOK || len(answer) > 0 {
		t.Errorf("the key with other tokens: %d %s", status, answer)
	}
	one.Messages[0].Message = []byte("another")
	if status, answer := relay.TrySealed(t, key, one); status != http.StatusConflict ||
		!strings.Contains(string(answer), "idempotency_key_reused") {
		t.Errorf("the key with the same token and another body: %d %s", status, answer)
	}
	// Somebody else's request with this key is neither told of it nor held up by it.
	if failed := relay.SendSealed(t, key, relaytest.Sealed(carol.ID, "hers", carols)); len(failed) != 0 {
		t.Errorf("another's: %v", failed)
	}
	// A request that stored nothing has not used its key.
	key = uuid.New()
	wrong := relaytest.DeliveryToken()
	late := relaytest.Sealed(bob.ID, "late", wrong)
	if failed := relay.SendSealed(t, key, late); len(failed) != 1 {
		t.Errorf("before the token: %v", failed)
	}
	e2e.Change(t, e2e.Database(t, relay), "INSERT INTO delivery_tokens (hash, user_id) VALUES ($1, $2)",
		relaytest.HashOf(wrong), bob.User.ID)
	if failed := relay.SendSealed(t, key, late); len(failed) != 0 {
		t.Errorf("with the token: %v", failed)
	}
	if envelopes, _, _ := bob.Connect(t).Drain(); e2e.Texts(envelopes) != "once one late" {
		t.Errorf("%q arrived", e2e.Texts(envelopes))
	}
}

func TestASharedBodyAndAudiencesMayBeSealed(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	bob, carol := relay.Register(t), relay.Register(t).NewDevice(t)
	first := bob.NewDevice(t)
	token, carols := first.NewDeliveryToken(t), carol.NewDeliveryToken(t)
	recipient := func(d *relaytest.Device, token []byte) *obscurapb.SharedRecipient {
		id := uuid.New()
		return &obscurapb.SharedRecipient{SubmissionId: id[:], DeviceId: d.ID[:], Prefix: []byte("to "),
			DeliveryToken: token}
	}
	request := &obscurapb.SendMessageRequest{Shared: []*obscurapb.SharedSubmission{{Message: []byte("all"),
		Recipients: []*obscurapb.SharedRecipient{recipient(first, token), recipient(carol, carols)}}}}
	ask := func(audiences ...*obscurapb.Audience) *obscurapb.SendMessageResponse {
		request.Audiences = audiences
		status, answer := relay.TrySealed(t, uuid.New(), request)
		var response obscurapb.SendMessageResponse
		if err := proto.Unmarshal(answer, &response); status != http.StatusOK || err != nil {
			t.Fatalf("%d %s %v", status, answer, err)
		}
		return &response
	}
	if got := ask(&obscurapb.Audience{UserId: bob.ID[:], DevicesVersion: 99}); len(got.GetDeviceLists()) != 1 ||
		len(got.GetDeviceLists()[0].GetDevices()) != 1 || len(got.GetFailedSubmissions()) != 2 {
		t.Fatalf("a version from the future: %v", got)
	}
	list := ask(&obscurapb.Audience{UserId: bob.ID[:], DevicesVersion: 99}).GetDeviceLists()[0]
	now := &obscurapb.Audience{UserId: bob.ID[:], DevicesVersion: list.GetDevicesVersion()}
	if got := ask(now); proto.Size(got) != 0 {
		t.Fatalf("the current version: %v", got)
	}
	for _, d := range []*relaytest.Device{first, carol} {
		if got, _, _ := d.Connect(t).Drain(); e2e.Texts(got) != "to all" || !unnamed(got[0]) {
			t.Errorf("arrived: %v", got)
		}
	}
	// Whom no token of the request opens is answered as one who does not exist.
	dora := relay.Register(t).NewDevice(t)
	stranger := uuid.New()
	for _, user := range []uuid.UUID{dora.User.ID, stranger} {
		got := ask(&obscurapb.Audience{UserId: user[:], DevicesVersion: 2})
		if lists := got.GetDeviceLists(); len(lists) != 1 || lists[0].GetDevicesVersion() != 0 ||
			len(lists[0].GetDevices()) != 0 || string(lists[0].GetUserId()) != string(user[:]) {
			t.Errorf("an audience that is not opened: %v", lists)
		}
	}
	// A user whose device has been replaced is told to those who hold the token.
	second := bob.NewDevice(t)
	if got, err := second.DeleteDeviceWithResponse(t.Context(), first.ID); err != nil || got.StatusCode() != 200 {
		t.Fatalf("%v %s", err, got.Body)
	}
	request.Shared[0].Recipients = request.Shared[0].Recipients[:1]
	if lists := ask(&obscurapb.Audience{UserId: bob.ID[:], DevicesVersion: 2}).GetDeviceLists(); len(lists) != 1 ||
		len(lists[0].GetDevices()) != 1 || string(lists[0].GetDevices()[0].GetDeviceId()) != string(second.ID[:]) {
		t.Errorf("after a replacement: %v", lists)
	}
}
