package app_test

import (
	"encoding/base64"
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
	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/prekeytest"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
	"github.com/obscura-relay/obscura/internal/kit/wait"
)

// TestALogTellsNothingAboutAnybody plays a full session, errors included, from an address of its
// own, and looks for everything that it must not find in a log at the most talkative level.
func TestALogTellsNothingAboutAnybody(t *testing.T) {
	t.Parallel()
	const address = "127.0.7.77"
	relay := relaytest.Start(t)
	outside := e2e.From(t, address)
	found := e2e.Secrets{}
	found.Text("address", address)
	found.Text("password", relaytest.Password, "a wrong password here", "another good password")
	found.Text("database", relay.DatabaseURL)

	member := func(name string) (user *relaytest.User, device *relaytest.Device) {
		user = relay.Register(t)
		identity := prekeytest.NewIdentity()
		upload := identity.NewDevice(3, 2)
		upload.Name = &name
		device = user.NewDeviceWith(t, identity, upload)
		found.Text("names", user.Name, name)
		found.ID("user", user.ID)
		found.ID("device", device.ID)
		found.Tokens(t, user.Token, user.Refresh)
		found.Tokens(t, device.Token, device.Refresh)
		found.Raw("identity key", identity.Public)
		found.Raw("private key", identity.Private)
		found.Raw("signed key", upload.SignedPreKey.PublicKey)
		found.Raw("signature", upload.SignedPreKey.Signature)
		for _, k := range upload.OneTimePreKeys {
			found.Raw("one-time key", k.PublicKey)
		}
		for _, k := range upload.KyberPreKeys {
			found.Raw("Kyber key", k.PublicKey)
		}
		return user, device
	}
	aliceUser, alice := member("Alice's laptop")
	bobUser, bob := member("Bob's telephone")

	// What goes wrong.
	asks := []e2e.Ask{e2e.LogIn(aliceUser.Name, "a wrong password here"),
		e2e.LogIn("unknown_somebody", relaytest.Password), e2e.Register(aliceUser.Name, relaytest.Password),
		e2e.Refresh("not-a-refresh-token"), {Method: "DELETE", Path: "/v1/sessions", Token: alice.Token,
			Body: e2e.Object("refreshToken", bob.Refresh)},
		{Method: "DELETE", Path: "/v1/account", Token: alice.Token,
			Body: e2e.Object("password", "a wrong password here")},
		{Method: "GET", Path: "/v1/devices/" + bob.ID.String(), Token: alice.Token},
		{Method: "GET", Path: "/v1/users/" + bobUser.ID.String(), Token: aliceUser.Token},
		{Method: "GET", Path: "/v1/users/" + bobUser.ID.String(), Token: alice.Token},
		{Method: "GET", Path: "/v1/nothing/" + bobUser.ID.String()},
		{Method: "POST", Path: "/v1/devices", Token: aliceUser.Token,
			Body: `{"identityKey":"` + base64.StdEncoding.EncodeToString(alice.Identity.Public) + `"}`},
		{Method: "POST", Path: "/v1/messages", Token: alice.Token, Media: "application/x-protobuf",
			Body: "no protobuf " + bob.ID.String()},
		{Method: "GET", Path: "/v1/gateway?ticket=a-wrong-ticket", Header: e2e.Upgrade}}
	found.Text("made up", "unknown_somebody", "not-a-refresh-token", "a-wrong-ticket", "no protobuf")
	for _, a := range asks {
		a.Through(t, relay.API, outside)
	}

	// Certificates, of which the relay keeps the keys.
	certificate := e2e.Ask{Method: "GET", Path: "/v1/certificates/sender", Token: alice.Token}
	found.Text("certificate", certificate.Through(t, relay.API, outside).Want(t, 200, "").Member(t, "certificate"))
	var root, server []byte
	if err := e2e.Database(t, relay).QueryRow(t.Context(),
		"SELECT root_secret, server_secret FROM certificate_keys").Scan(&root, &server); err != nil {
		t.Fatal(err)
	}
	found.Raw("root's private key", root)
	found.Raw("server's private key", server)

	// Blobs: what is stored, what is refused, what the store has lost.
	secret := strings.Repeat("ciphertext of an attachment ", 3)
	found.Text("ciphertext", secret[:20])
	attachment := e2e.Ask{Method: "POST", Path: "/v1/attachments", Token: alice.Token, Media: e2e.Octets, Body: secret}
	attached := uuid.MustParse(attachment.Through(t, relay.API, outside).Want(t, 201, "").Member(t, "id"))
	found.ID("attachment", attached)
	attachment.Token = aliceUser.Token
	attachment.Through(t, relay.API, outside).Want(t, 403, "device_required")
	backup := e2e.Ask{Method: "POST", Path: "/v1/backup", Token: alice.Token, Media: e2e.Octets, Body: secret,
		Header: map[string]string{"If-None-Match": "*"}}
	backup.Through(t, relay.API, outside).Want(t, 200, "")
	backup.Through(t, relay.API, outside).Want(t, 412, "precondition_failed")
	download := e2e.Ask{Method: "GET", Path: "/v1/attachments/" + attached.String(), Token: bob.Token,
		Header: map[string]string{"Range": "bytes=5-9"}}
	download.Through(t, relay.API, outside).Want(t, 206, "")
	if err := os.Remove(filepath.Join(relay.Blobs, "attachments", attached.String())); err != nil {
		t.Fatal(err)
	}
	download.Through(t, relay.API, outside).Want(t, 500, "internal")

	// Mail, offline and live, by ticket.
	found.Raw("ciphertext", []byte("ciphertext of the first"))
	found.Raw("ciphertext", []byte("ciphertext of the second"))
	submission := relaytest.To(bob.ID, "ciphertext of the first")
	body, err := proto.Marshal(&obscurapb.SendMessageRequest{Messages: []*obscurapb.Submission{submission,
		relaytest.To(uuid.New(), "ciphertext of the second")}})
	if err != nil {
		t.Fatal(err)
	}
	key := uuid.New()
	found.ID("idempotency key", key)
	found.ID("submission", uuid.UUID(submission.GetSubmissionId()))
	e2e.Ask{Method: "POST", Path: "/v1/messages", Token: alice.Token, Media: "application/x-protobuf",
		Body:   string(body),
		Header: map[string]string{"Idempotency-Key": key.String()}}.Through(t, relay.API, outside).Want(t, 200, "")
	ticket := e2e.Ask{Method: "POST", Path: "/v1/gateway/ticket", Token: bob.Token}.Through(t, relay.API,
		outside).Want(t, 201, "").Member(t, "ticket")
	found.Text("ticket", ticket)
	socket, response, err := websocket.Dial(t.Context(), //nolint:bodyclose // the library closes it
		"ws"+strings.TrimPrefix(relay.API, "http")+"/v1/gateway?ticket="+ticket,
		&websocket.DialOptions{HTTPClient: outside, HTTPHeader: http.Header{"Cookie": {"crumb=secretcookie"}}})
	if err != nil {
		t.Fatalf("%v %v", err, response)
	}
	found.Text("cookie", "secretcookie")
	read := &relaytest.Socket{Conn: socket}
	for acknowledged := false; !acknowledged; {
		frame, err := read.Frame()
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range frame.GetEnvelopeBatch().GetEnvelopes() {
			found.ID("envelope", uuid.UUID(e.GetId()))
			ack, _ := proto.Marshal(&obscurapb.WebSocketFrame{
				Payload: &obscurapb.WebSocketFrame_Ack{Ack: &obscurapb.AckMessage{MessageIds: [][]byte{e.GetId()}}}})
			if err := socket.Write(t.Context(), websocket.MessageBinary, ack); err != nil {
				t.Fatal(err)
			}
			acknowledged = true
		}
	}
	wait.Eventually(t, "it is acknowledged", func() bool {
		return metric(t, relay, "obscura_envelopes_acknowledged_total") == "1"
	})
	if err := socket.Write(t.Context(), websocket.MessageText, []byte("a text frame of garbage")); err != nil {
		t.Fatal(err)
	}
	if code := read.CloseCode(); code != 1008 {
		t.Errorf("closed with %d", code)
	}
	found.Text("frame", "text frame of garbage")

	// A takeover, a new password, the end.
	identity := prekeytest.NewIdentity()
	id, registration, signed := identity.Public, int32(7), identity.SignedPreKey(9)
	if got, err := bob.UploadKeysWithResponse(t.Context(),
		client.KeyUpload{IdentityKey: &id, RegistrationID: &registration, SignedPreKey: &signed}); err != nil ||
		got.StatusCode() != 200 {
		t.Fatalf("%v, %s", err, got.Body)
	}
	found.Raw("identity key", identity.Public)
	changed := e2e.Ask{Method: "PUT", Path: "/v1/account/password", Token: alice.Token,
		Body: e2e.Object("currentPassword", relaytest.Password, "newPassword", "another good password")}.Through(t,
		relay.API, outside).Want(t, 200, "")
	found.Tokens(t, changed.Member(t, "token"), changed.Member(t, "refreshToken"))
	e2e.Ask{Method: "DELETE", Path: "/v1/account", Token: changed.Member(t, "token"),
		Body: e2e.Object("password", "another good password")}.
		Through(t, relay.API, outside).Want(t, 200, "")

	// A client that breaks off, and a database that fails.
	conn, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}).Dial("tcp",
		strings.TrimPrefix(relay.API, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	_, _ = conn.Write([]byte("POST /v1/users HTTP/1.1\r\nContent-Length: 99\r\n\r\n" + relaytest.Password))
	_ = conn.Close()
	e2e.Execute(t, e2e.Database(t, relay), "ALTER TABLE users RENAME COLUMN password_hash TO gone")
	e2e.LogIn(bobUser.Name, relaytest.Password).Through(t, relay.API, outside).Want(t, 500, "internal")
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
		ask       e2e.Ask
		operation string
		status    int
	}{
		{e2e.Ask{Method: "GET", Path: "/v1/account", Token: device.Token}, "getAccount", 200},
		{e2e.Ask{Method: "GET", Path: "/v1/account"}, "getAccount", 401},
		{e2e.Ask{Method: "GET", Path: "/v1/devices/" + uuid.NewString(), Token: device.Token}, "getDevice", 404},
		{e2e.Ask{Method: "POST", Path: "/v1/users", Body: "{"}, "createUser", 400},
		{e2e.Ask{Method: "GET", Path: "/v1/nothing"}, "none", 404},
		{e2e.Ask{Method: "PATCH", Path: "/v1/users"}, "none", 405},
		{e2e.Ask{Method: "FROB", Path: "/v1/users"}, "none", 405},
		{e2e.Ask{Method: "GET", Path: "/v1/gateway?ticket=x", Header: e2e.Upgrade}, "connectGateway", 401},
		{e2e.Ask{Method: "GET", Path: "/v1/account", Header: map[string]string{"X-Long": strings.Repeat("a", 20_000)}},
			"none", 431},
		{e2e.Ask{Method: "POST", Path: "/v1/attachments", Token: device.Token, Media: e2e.Octets, Body: "x"},
			"uploadAttachment", 201},
		{e2e.Ask{Method: "POST", Path: "/v1/attachments", Media: e2e.Octets, Body: "x"}, "uploadAttachment", 401},
		{e2e.Ask{Method: "POST", Path: "/v1/backup", Token: device.Token, Media: e2e.Octets, Body: "x",
			Header: map[string]string{"If-None-Match": "*"}}, "uploadBackup", 400},
		{e2e.Ask{Method: "GET", Path: "/v1/attachments/" + e2e.Attach(t, device, e2e.Random(t, 100_000)).ID.String(),
			Token: device.Token}, "downloadAttachment", 200},
	} {
		got := c.ask.To(t, relay)
		id := got.Header.Get("X-Request-Id")
		var lines []string
		wait.Eventually(t, "the request has its line", func() bool {
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
			Waited         *int64
			Code           string
			RequestID      string `json:"request_id"`
			BytesIn        *int   `json:"bytes_in"`
			BytesOut       int    `json:"bytes_out"`
		}
		if err := json.Unmarshal([]byte(lines[0]), &line); err != nil {
			t.Fatal(err)
		}
		code := ""
		if c.status >= 400 {
			code = got.Member(t, "code")
		}
		if len(lines) != 1 || line.Msg != "request" || line.Operation != c.operation || line.Status != c.status ||
			got.Status != c.status ||
			line.RequestID != id || line.BytesIn == nil ||
			line.Waited == nil || line.Code != code || line.BytesOut != len(got.Body) {
			t.Errorf("%s %.30s: %s", c.ask.Method, c.ask.Path, lines)
		}
	}
}
