package app_test

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/obscura-relay/obscura/gen/client"
	"github.com/obscura-relay/obscura/gen/obscurapb"
	"github.com/obscura-relay/obscura/internal/kit/prekeytest"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

// secrets are what the log must not hold, by what they are.
type secrets map[string][]string

func (s secrets) text(what string, values ...string) { s[what] = append(s[what], values...) }

// raw adds bytes in every form in which they might be written.
func (s secrets) raw(what string, b []byte) {
	s.text(what, base64.StdEncoding.EncodeToString(b), base64.RawURLEncoding.EncodeToString(b), hex.EncodeToString(b), string(b))
}

func (s secrets) id(what string, id uuid.UUID) {
	s.raw(what, id[:])
	s.text(what, id.String())
}

func (s secrets) tokens(t testing.TB, access, refresh string) {
	parts := strings.Split(access, ".")
	s.text("access token", access, parts[1], parts[2])
	_, secret, _ := strings.Cut(refresh, ".")
	s.text("refresh token", refresh, secret)
	session, err := uuid.Parse(relaytest.Claims(t, access)["sid"].(string))
	if err != nil {
		t.Fatal(err)
	}
	s.id("session", session)
}

// TestALogTellsNothingAboutAnybody plays a full session, errors included, from an address of its own, and
// looks for everything that it must not find in a log at the most talkative level.
func TestALogTellsNothingAboutAnybody(t *testing.T) {
	t.Parallel()
	const address = "127.0.7.77"
	relay := relaytest.Start(t)
	outside := from(t, address)
	found := secrets{}
	found.text("address", address)
	found.text("password", relaytest.Password, "a wrong password here", "another good password")
	found.text("database", relay.DatabaseURL)

	member := func(name string) (user *relaytest.User, device *relaytest.Device) {
		user = relay.Register(t)
		identity := prekeytest.NewIdentity()
		upload := relaytest.NewDevice(identity, 3, 2)
		upload.Name = &name
		device = user.NewDeviceWith(t, identity, upload)
		found.text("names", user.Name, name)
		found.id("user", user.ID)
		found.id("device", device.ID)
		found.tokens(t, user.Token, user.Refresh)
		found.tokens(t, device.Token, device.Refresh)
		found.raw("identity key", identity.Public)
		found.raw("private key", identity.Private)
		found.raw("signed key", upload.SignedPreKey.PublicKey)
		found.raw("signature", upload.SignedPreKey.Signature)
		for _, k := range upload.OneTimePreKeys {
			found.raw("one-time key", k.PublicKey)
		}
		for _, k := range upload.KyberPreKeys {
			found.raw("Kyber key", k.PublicKey)
		}
		return user, device
	}
	aliceUser, alice := member("Alice's laptop")
	bobUser, bob := member("Bob's telephone")

	// What goes wrong.
	asks := []ask{logIn(aliceUser.Name, "a wrong password here"), logIn("unknown_somebody", relaytest.Password), register(aliceUser.Name, relaytest.Password),
		refresh("not-a-refresh-token"), logOut(alice.Token, bob.Refresh), {method: "DELETE", path: "/v1/account", token: alice.Token, body: object("password", "a wrong password here")},
		{method: "GET", path: "/v1/devices/" + bob.ID.String(), token: alice.Token}, {method: "GET", path: "/v1/users/" + bobUser.ID.String(), token: aliceUser.Token},
		{method: "GET", path: "/v1/users/" + bobUser.ID.String(), token: alice.Token}, {method: "GET", path: "/v1/nothing/" + bobUser.ID.String()},
		{method: "POST", path: "/v1/devices", token: aliceUser.Token, body: `{"identityKey":"` + base64.StdEncoding.EncodeToString(alice.Identity.Public) + `"}`},
		{method: "POST", path: "/v1/messages", token: alice.Token, media: "application/x-protobuf", body: "no protobuf " + bob.ID.String()},
		{method: "GET", path: "/v1/gateway?ticket=a-wrong-ticket", header: upgrade}}
	found.text("made up", "unknown_somebody", "not-a-refresh-token", "a-wrong-ticket", "no protobuf")
	for _, a := range asks {
		a.through(t, relay.API, outside)
	}

	// Blobs: what is stored, what is refused, what the store has lost.
	secret := strings.Repeat("ciphertext of an attachment ", 3)
	found.text("ciphertext", secret[:20])
	attachment := ask{method: "POST", path: "/v1/attachments", token: alice.Token, media: octets, body: secret}
	attached := uuid.MustParse(attachment.through(t, relay.API, outside).want(t, 201, "").member(t, "id"))
	found.id("attachment", attached)
	attachment.token = aliceUser.Token
	attachment.through(t, relay.API, outside).want(t, 403, "device_required")
	backup := ask{method: "POST", path: "/v1/backup", token: alice.Token, media: octets, body: secret, header: map[string]string{"If-None-Match": "*"}}
	backup.through(t, relay.API, outside).want(t, 200, "")
	backup.through(t, relay.API, outside).want(t, 412, "precondition_failed")
	download := ask{method: "GET", path: "/v1/attachments/" + attached.String(), token: bob.Token, header: map[string]string{"Range": "bytes=5-9"}}
	download.through(t, relay.API, outside).want(t, 206, "")
	if err := os.Remove(filepath.Join(relay.Blobs, "attachments", attached.String())); err != nil {
		t.Fatal(err)
	}
	download.through(t, relay.API, outside).want(t, 500, "internal")

	// Mail, offline and live, by ticket.
	found.raw("ciphertext", []byte("ciphertext of the first"))
	found.raw("ciphertext", []byte("ciphertext of the second"))
	submission := relaytest.To(bob.ID, "ciphertext of the first")
	body, err := proto.Marshal(&obscurapb.SendMessageRequest{Messages: []*obscurapb.Submission{submission, relaytest.To(uuid.New(), "ciphertext of the second")}})
	if err != nil {
		t.Fatal(err)
	}
	key := uuid.New()
	found.id("idempotency key", key)
	found.id("submission", uuid.UUID(submission.GetSubmissionId()))
	ask{method: "POST", path: "/v1/messages", token: alice.Token, media: "application/x-protobuf", body: string(body),
		header: map[string]string{"Idempotency-Key": key.String()}}.through(t, relay.API, outside).want(t, 200, "")
	ticket := ask{method: "POST", path: "/v1/gateway/ticket", token: bob.Token}.through(t, relay.API, outside).want(t, 201, "").member(t, "ticket")
	found.text("ticket", ticket)
	socket, response, err := websocket.Dial(t.Context(), "ws"+strings.TrimPrefix(relay.API, "http")+"/v1/gateway?ticket="+ticket, //nolint:bodyclose // the library closes it
		&websocket.DialOptions{HTTPClient: outside, HTTPHeader: http.Header{"Cookie": {"crumb=secretcookie"}}})
	if err != nil {
		t.Fatalf("%v %v", err, response)
	}
	found.text("cookie", "secretcookie")
	read := &relaytest.Socket{Conn: socket}
	for acknowledged := false; !acknowledged; {
		frame, err := read.Frame()
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range frame.GetEnvelopeBatch().GetEnvelopes() {
			found.id("envelope", uuid.UUID(e.GetId()))
			ack, _ := proto.Marshal(&obscurapb.WebSocketFrame{Payload: &obscurapb.WebSocketFrame_Ack{Ack: &obscurapb.AckMessage{MessageIds: [][]byte{e.GetId()}}}})
			if err := socket.Write(t.Context(), websocket.MessageBinary, ack); err != nil {
				t.Fatal(err)
			}
			acknowledged = true
		}
	}
	relaytest.Eventually(t, "it is acknowledged", func() bool { return metric(t, relay, "obscura_envelopes_acknowledged_total") == "1" })
	if err := socket.Write(t.Context(), websocket.MessageText, []byte("a text frame of garbage")); err != nil {
		t.Fatal(err)
	}
	if code := read.CloseCode(); code != 1008 {
		t.Errorf("closed with %d", code)
	}
	found.text("frame", "text frame of garbage")

	// A takeover, a new password, the end.
	identity := prekeytest.NewIdentity()
	id, registration, signed := identity.Public, int32(7), relaytest.Signed(identity.SignedPreKey(9))
	if got, err := bob.UploadKeysWithResponse(t.Context(), client.KeyUpload{IdentityKey: &id, RegistrationID: &registration, SignedPreKey: &signed}); err != nil || got.StatusCode() != 200 {
		t.Fatalf("%v, %s", err, got.Body)
	}
	found.raw("identity key", identity.Public)
	changed := ask{method: "PUT", path: "/v1/account/password", token: alice.Token,
		body: object("currentPassword", relaytest.Password, "newPassword", "another good password")}.through(t, relay.API, outside).want(t, 200, "")
	found.tokens(t, changed.member(t, "token"), changed.member(t, "refreshToken"))
	ask{method: "DELETE", path: "/v1/account", token: changed.member(t, "token"), body: object("password", "another good password")}.
		through(t, relay.API, outside).want(t, 200, "")

	// A client that breaks off, and a database that fails.
	conn, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}).Dial("tcp", strings.TrimPrefix(relay.API, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	_, _ = conn.Write([]byte("POST /v1/users HTTP/1.1\r\nContent-Length: 99\r\n\r\n" + relaytest.Password))
	_ = conn.Close()
	execute(t, inside(t, relay), "ALTER TABLE users RENAME COLUMN password_hash TO gone")
	logIn(bobUser.Name, relaytest.Password).through(t, relay.API, outside).want(t, 500, "internal")
	relay.Stop()

	log := relay.Log.String()
	if strings.Count(log, `"msg":"request"`) < 20 {
		t.Fatalf("not a full log: %s", log)
	}
	for what, values := range found {
		for _, value := range values {
			if at := strings.Index(strings.ToLower(log), strings.ToLower(value)); at >= 0 {
				t.Errorf("the log holds a %s: %s", what, log[max(0, at-200):at+len(value)])
			}
		}
	}
}

func TestEveryRequestHasOneLineWithItsOperation(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	device := relay.Register(t).NewDevice(t)
	for _, c := range []struct {
		ask       ask
		operation string
		status    int
	}{
		{ask{method: "GET", path: "/v1/account", token: device.Token}, "getAccount", 200},
		{ask{method: "GET", path: "/v1/account"}, "getAccount", 401},
		{ask{method: "GET", path: "/v1/devices/" + uuid.NewString(), token: device.Token}, "getDevice", 404},
		{ask{method: "POST", path: "/v1/users", body: "{"}, "createUser", 400},
		{ask{method: "GET", path: "/v1/nothing"}, "none", 404},
		{ask{method: "PATCH", path: "/v1/users"}, "none", 405},
		{ask{method: "FROB", path: "/v1/users"}, "none", 405},
		{ask{method: "GET", path: "/v1/gateway?ticket=x", header: upgrade}, "connectGateway", 401},
		{ask{method: "GET", path: "/v1/account", header: map[string]string{"X-Long": strings.Repeat("a", 20_000)}}, "none", 431},
		{ask{method: "POST", path: "/v1/attachments", token: device.Token, media: octets, body: "x"}, "uploadAttachment", 201},
		{ask{method: "POST", path: "/v1/attachments", media: octets, body: "x"}, "uploadAttachment", 401},
		{ask{method: "POST", path: "/v1/backup", token: device.Token, media: octets, body: "x", header: map[string]string{"If-None-Match": "*"}}, "uploadBackup", 400},
		{ask{method: "GET", path: "/v1/attachments/" + attach(t, device, random(t, 100_000)).ID.String(), token: device.Token}, "downloadAttachment", 200},
	} {
		got := c.ask.to(t, relay)
		id := got.header.Get("X-Request-Id")
		var lines []string
		relaytest.Eventually(t, "the request has its line", func() bool {
			lines = nil
			for line := range strings.Lines(relay.Log.String()) {
				if strings.Contains(line, id) {
					lines = append(lines, line)
				}
			}
			return len(lines) > 0
		})
		var line struct {
			Msg, Operation string
			Status         int
			Took           int64
			RequestID      string `json:"request_id"`
			BytesIn        *int   `json:"bytes_in"`
			BytesOut       int    `json:"bytes_out"`
		}
		if err := json.Unmarshal([]byte(lines[0]), &line); err != nil {
			t.Fatal(err)
		}
		if len(lines) != 1 || line.Msg != "request" || line.Operation != c.operation || line.Status != c.status || got.status != c.status ||
			line.RequestID != id || line.BytesIn == nil || line.BytesOut != len(got.body) {
			t.Errorf("%s %.30s: %s", c.ask.method, c.ask.path, lines)
		}
	}
}
