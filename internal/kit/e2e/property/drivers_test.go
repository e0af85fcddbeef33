package property_test

import (
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/obscura-relay/obscura/gen/client"
	"github.com/obscura-relay/obscura/gen/obscurapb"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/prekeytest"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
	"github.com/obscura-relay/obscura/internal/kit/wait"
)

// driver makes a drawn request one that must be accepted: it puts in what a schema cannot know,
// names, passwords, tokens and keys that fit, and changes nothing else. An operation that needs
// nothing has nil.
type driver func(t *rapid.T, w *world, c *call)

// drivers has one for every operation of the contract.
var drivers = map[string]driver{
	"createUser":     func(_ *rapid.T, _ *world, c *call) { c.body.put("username", freshName()) },
	"createSession":  driveCreateSession,
	"deleteSession":  driveDeleteSession,
	"refreshSession": driveRefreshSession,
	"getAccount":     nil,
	"deleteAccount": func(_ *rapid.T, w *world, c *call) {
		c.token = w.device().User.Token
		c.body.put("password", relaytest.Password)
		c.accepted = func(e2e.Reply) { w.spare, w.owner = nil, nil }
	},
	"changePassword": func(_ *rapid.T, w *world, c *call) {
		c.token = w.device().Token
		c.body.put("currentPassword", relaytest.Password)
		c.accepted = func(e2e.Reply) { // the other devices are told
			e2e.Refresh(w.spare.User.Refresh).Through(w, w.relay.API, w.http).Want(w, 401, "password_changed")
			w.spare, w.owner = nil, nil
		}
	},
	"createDevice": func(_ *rapid.T, w *world, c *call) {
		c.token = w.user().Token
		identity := prekeytest.NewIdentity()
		c.body.put("identityKey", identity.Public)
		fitKeys(w, c.body, identity)
		c.accepted = func(e2e.Reply) { w.devices++ }
	},
	"listDevices":         nil,
	"getDevice":           func(_ *rapid.T, w *world, c *call) { c.ids["deviceId"] = w.self.ID.String() },
	"updateDevice":        func(_ *rapid.T, w *world, c *call) { c.ids["deviceId"] = w.self.ID.String() },
	"deleteDevice":        driveDeleteDevice,
	"uploadKeys":          driveUploadKeys,
	"getKeyInventory":     nil,
	"getPreKeyBundles":    driveGetPreKeyBundles,
	"listDevicesOfUser":   func(_ *rapid.T, w *world, c *call) { c.ids["userId"] = w.peer.User.ID.String() },
	"sendMessages":        driveSendMessages,
	"sendSealedMessages":  driveSendMessages,
	"createGatewayTicket": nil,
	"connectGateway":      driveConnectGateway,
	"uploadAttachment":    func(t *rapid.T, _ *world, c *call) { c.raw = drawBlob(t, 1) },
	"downloadAttachment": func(_ *rapid.T, w *world, c *call) {
		c.ids["attachmentId"] = w.blobs().String()
		c.header.Del("If-None-Match") // may be what it has
	},
	"uploadBackup":         driveUploadBackup,
	"downloadBackup":       func(_ *rapid.T, w *world, c *call) { w.blobs(); c.header.Del("If-None-Match") },
	"headBackup":           func(_ *rapid.T, w *world, _ *call) { w.blobs() },
	"setPushToken":         driveSetPushToken,
	"deletePushToken":      nil,
	"getVapidKey":          nil,
	"listDeliveryTokens":   nil,
	"changeDeliveryTokens": driveChangeDeliveryTokens,
	"getSenderCertificate": nil,
	"getTrustRoot":         nil,
	"getInfo":              nil,
	"getStart":             nil,
	"getContract":          nil,
	"getContractJSON":      nil,
	"getFrames":            nil,
	"getDocs":              nil,
	"getDocsFile": func(t *rapid.T, _ *world, c *call) {
		c.ids["name"] = rapid.SampledFrom([]string{"page.js", "page.css", "swagger-ui.css"}).Draw(t, "file")
	},
}

func freshName() string { return "p_" + strings.ReplaceAll(uuid.NewString(), "-", "") }

func driveCreateSession(t *rapid.T, w *world, c *call) {
	name := w.self.User.Name
	if rapid.Bool().Draw(t, "in capitals") {
		name = strings.ToUpper(name)
	}
	c.body.put("username", name)
	c.body.put("password", relaytest.Password)
	if rapid.Bool().Draw(t, "own device") {
		c.body.put("deviceId", w.self.ID)
	}
	if rapid.Bool().Draw(t, "shows a device") {
		c.body.put("refreshToken", w.self.Refresh)
	}
}

func driveGetPreKeyBundles(t *rapid.T, w *world, c *call) {
	c.ids["userId"] = w.peer.User.ID.String()
	c.query.Del("deviceId")
	for range rapid.IntRange(0, 10).Draw(t, "names of devices") {
		c.query.Add("deviceId", w.peer.ID.String())
	}
}

// driveSetPushToken leaves one of the two, and gives a subscription a key that is a point.
func driveSetPushToken(t *rapid.T, _ *world, c *call) {
	if c.body.get("webPush") == nil {
		if c.body.get("token") == nil {
			c.body.put("token", "a token of an app")
		}
		return
	}
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	text := base64.RawURLEncoding.EncodeToString
	c.body.members = slices.DeleteFunc(c.body.members, func(m member) bool { return m.name == "token" })
	c.body.put("webPush", map[string]any{"endpoint": "https://push.example.org/" + uuid.NewString(),
		"keys": map[string]any{"p256dh": text(key.PublicKey().Bytes()), "auth": text(make([]byte, 16))}})
}

func driveDeleteSession(_ *rapid.T, w *world, c *call) {
	c.token = w.device().User.Token
	c.body.put("refreshToken", w.spare.Refresh)
	c.accepted = func(e2e.Reply) { w.spare = nil }
}

func driveRefreshSession(t *rapid.T, w *world, c *call) {
	c.body.put("refreshToken", w.refresh)
	c.accepted = func(r e2e.Reply) {
		var tokens client.AuthResponse
		if err := json.Unmarshal(r.Body, &tokens); err != nil {
			t.Fatal(err)
		}
		w.refresh = tokens.RefreshToken
	}
}

func driveDeleteDevice(_ *rapid.T, w *world, c *call) {
	c.token = w.device().User.Token
	c.ids["deviceId"] = w.spare.ID.String()
	c.accepted = func(e2e.Reply) { w.spare = nil }
}

// driveUploadKeys refills, or takes the device over.
func driveUploadKeys(t *rapid.T, w *world, c *call) {
	device := w.device()
	c.token = device.Token
	identity := device.Identity
	if given := c.body.get("identityKey"); given == nil {
	} else if rapid.IntRange(0, 3).Draw(t, "takeover") > 0 {
		c.body.put("identityKey", identity.Public)
		c.body.put("registrationId", device.RegistrationID)
	} else {
		identity = prekeytest.NewIdentity()
		c.body.put("identityKey", identity.Public)
		c.body.put("registrationId", 7)
		c.body.put("signedPreKey", identity.SignedPreKey(0))
		c.accepted = func(e2e.Reply) { w.spare = nil }
	}
	fitKeys(w, c.body, identity)
}

// fitKeys puts keys of an identity in the place of those that were drawn, as many as there are.
// Their ids are new.
func fitKeys(w *world, body *node, identity *prekeytest.Identity) {
	id := func() int { w.keyID++; return w.keyID + 1 } // a new device has used 1
	if body.get("signedPreKey") != nil {
		body.put("signedPreKey", identity.SignedPreKey(id()))
	}
	if body.get("lastResortKyberPreKey") != nil {
		body.put("lastResortKyberPreKey", identity.KyberPreKey(id()))
	}
	if keys := body.get("oneTimePreKeys"); keys != nil {
		fit := []client.OneTimePreKey{}
		for range keys.items {
			fit = append(fit, prekeytest.PreKeys(id()+100, 1)...)
		}
		body.put("oneTimePreKeys", fit)
	}
	if keys := body.get("kyberPreKeys"); keys != nil {
		fit := []client.KyberPreKey{}
		for range keys.items {
			fit = append(fit, identity.KyberPreKey(id()+100))
		}
		body.put("kyberPreKeys", fit)
	}
}

// driveSendMessages sends to real devices and to none, well-formed and not: each submission has an
// answer of its own.
func driveSendMessages(t *rapid.T, w *world, c *call) {
	request := &obscurapb.SendMessageRequest{}
	sealed := c.OperationID == "sendSealedMessages"
	most := 4
	if rapid.IntRange(0, 9).Draw(t, "many") == 0 {
		most = core.MaxSubmissions
	}
	for range rapid.IntRange(0, most).Draw(t, "submissions") {
		to := rapid.SampledFrom([]uuid.UUID{w.self.ID, w.peer.ID, w.self.User.ID, uuid.Nil}).Draw(t, "to")
		submission := relaytest.To(to, rapid.StringN(0, 50, -1).Draw(t, "message"))
		submission.Quiet = rapid.Bool().Draw(t, "quiet")
		if sealed {
			submission.DeliveryToken = rapid.SampledFrom([][]byte{w.token, w.token[1:], w.self.ID[:], nil}).Draw(t, "token")
		}
		switch rapid.IntRange(0, 7).Draw(t, "malformed") {
		case 0:
			submission.SubmissionId = rapid.SliceOf(rapid.Byte()).Draw(t, "submission id")
		case 1:
			submission.DeviceId = rapid.SliceOf(rapid.Byte()).Draw(t, "device id")
		}
		request.Messages = append(request.Messages, submission)
	}
	for range rapid.IntRange(0, 2).Draw(t, "shared") {
		one := &obscurapb.SharedSubmission{Message: rapid.SliceOfN(rapid.Byte(), 0, 50).Draw(t, "shared message"),
			Quiet: rapid.Bool().Draw(t, "shared quiet")}
		for range rapid.IntRange(0, 3).Draw(t, "recipients") {
			id := uuid.New()
			recipient := &obscurapb.SharedRecipient{SubmissionId: id[:], DeviceId: w.peer.ID[:],
				Prefix: rapid.SliceOfN(rapid.Byte(), 0, core.MaxPrefix).Draw(t, "prefix")}
			if sealed {
				recipient.DeliveryToken = w.token
			}
			one.Recipients = append(one.Recipients, recipient)
		}
		request.Shared = append(request.Shared, one)
	}
	for range rapid.IntRange(0, 2).Draw(t, "audiences") {
		request.Audiences = append(request.Audiences, &obscurapb.Audience{UserId: w.peer.User.ID[:],
			DevicesVersion: rapid.Uint64Range(0, 3).Draw(t, "version")})
	}
	body, err := proto.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	c.raw = body
	if c.header.Get("Idempotency-Key") != "" {
		c.header.Set("Idempotency-Key", uuid.NewString()) // one that was used for another body is refused
	}
}

// driveChangeDeliveryTokens names each token once, and lets it expire in the future.
func driveChangeDeliveryTokens(t *rapid.T, _ *world, c *call) {
	add, remove := []any{}, []any{}
	for i := range rapid.IntRange(1, 4).Draw(t, "added") {
		token := map[string]any{"hash": relaytest.HashOf([]byte{byte(i)})}
		if rapid.Bool().Draw(t, "expires") {
			token["expiresAt"] = time.Now().Add(time.Hour)
		}
		add = append(add, token)
	}
	for i := range rapid.IntRange(1, 4).Draw(t, "removed") {
		remove = append(remove, relaytest.HashOf([]byte{byte(100 + i)}))
	}
	for name, value := range map[string][]any{"add": add, "remove": remove} {
		if c.body.get(name) != nil {
			c.body.put(name, value)
		}
	}
}

func drawBlob(t *rapid.T, smallest int) []byte {
	return rapid.SliceOfN(rapid.Byte(), smallest, 5000).Draw(t, "ciphertext")
}

// driveUploadBackup stores a backup, or replaces the one that there is.
func driveUploadBackup(t *rapid.T, w *world, c *call) {
	c.raw = drawBlob(t, core.MinBackup)
	c.header.Del("If-Match")
	c.header.Del("If-None-Match")
	version := e2e.Count(w, w.database, "SELECT coalesce((SELECT version FROM backups WHERE device_id = $1), 0)",
		w.self.ID)
	if version == 0 {
		c.header.Set("If-None-Match", "*")
	} else {
		c.header.Set("If-Match", fmt.Sprintf(`"%d"`, version))
	}
}

// driveConnectGateway opens a socket, and waits until the relay has seen to it.
func driveConnectGateway(t *rapid.T, w *world, c *call) {
	for name, value := range e2e.Upgrade {
		c.header.Set(name, value)
	}
	if c.query.Has("ticket") {
		c.query.Set("ticket", e2e.Ticket(w, w.self))
	} else {
		c.token = w.self.Token
	}
	opened := func() int {
		return e2e.Count(w, w.database, "SELECT generation FROM mailboxes WHERE device_id = $1", w.self.ID)
	}
	before := opened()
	c.accepted = func(r e2e.Reply) {
		if r.Status != http.StatusSwitchingProtocols {
			t.Errorf("connectGateway: status %d", r.Status)
		}
		wait.Eventually(w, "the socket has opened", func() bool { return opened() > before })
	}
}
