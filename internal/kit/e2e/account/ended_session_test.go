package account_test

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	obscura "github.com/obscura-relay/obscura"
	"github.com/obscura-relay/obscura/gen/client"
	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/prekeytest"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
	"github.com/obscura-relay/obscura/internal/kit/testdb"
)

// notOfTheAccount are the operations that ask with a token and change nothing of the account that
// asks.
var notOfTheAccount = map[string]string{"sendMessages": "it changes the mailboxes of others",
	"sendSealedMessages": "it knows of no account"}

// actsOf makes one request, or several, for every operation that changes the account of a device.
func actsOf(d *relaytest.Device) map[string][]e2e.Ask {
	blob := strings.Repeat("x", 64)
	identity := prekeytest.NewIdentity()
	return map[string][]e2e.Ask{
		"deleteSession": {{Method: "DELETE", Path: "/v1/sessions", Body: e2e.Object("refreshToken", d.Refresh)}},
		"deleteAccount": {{Method: "DELETE", Path: "/v1/account",
			Body: e2e.Object("password", relaytest.Password)}},
		"changePassword": {{Method: "PUT", Path: "/v1/account/password",
			Body: e2e.Object("currentPassword", relaytest.Password, "newPassword", relaytest.Password+"!")}},
		"createDevice": {{Method: "POST", Path: "/v1/devices",
			Body: asJSON(identity.NewDevice(2, 1))}},
		"uploadKeys": {{Method: "POST", Path: "/v1/devices/keys",
			Body: asJSON(client.KeyUpload{OneTimePreKeys: prekeytest.PreKeys(50, 2)})},
			{Method: "POST", Path: "/v1/devices/keys", Body: asJSON(e2e.TakeoverBy(identity))}},
		"updateDevice": {{Method: "PUT", Path: "/v1/devices/" + d.ID.String(),
			Body: e2e.Object("name", "changed")}},
		"deleteDevice":        {{Method: "DELETE", Path: "/v1/devices/" + d.ID.String()}},
		"createGatewayTicket": {{Method: "POST", Path: "/v1/gateway/ticket"}},
		"uploadAttachment": {{Method: "POST", Path: "/v1/attachments", Media: "application/octet-stream",
			Body: blob}},
		"uploadBackup": {{Method: "POST", Path: "/v1/backup", Media: "application/octet-stream", Body: blob,
			Header: map[string]string{"If-None-Match": "*"}}},
		"setPushToken": {{Method: "PUT", Path: "/v1/push-tokens", Body: e2e.Object("token", "some-token")}},
		"changeDeliveryTokens": {{Method: "POST", Path: "/v1/delivery-tokens",
			Body: asJSON(client.DeliveryTokenChange{Add: []client.NewDeliveryToken{{Hash: relaytest.HashOf(nil)}}})}},
		"deletePushToken": {{Method: "DELETE", Path: "/v1/push-tokens"}},
	}
}

func asJSON(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}

// A session is being ended elsewhere, in a transaction that is not yet committed: whatever it asks
// to change waits for that and is then refused. The node believes the token, for it has heard of no
// revocation.
func TestAnEndedSessionChangesNothing(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	db := e2e.Database(t, relay)
	known := actsOf(relay.Register(t).NewDevice(t))
	for _, operation := range changes(t) {
		if notOfTheAccount[operation] != "" {
			continue
		}
		if len(known[operation]) == 0 {
			t.Errorf("%s changes something for a token and is not tried here: add it to actsOf", operation)
		}
		for i := range known[operation] {
			device := relay.Register(t).NewDevice(t)
			act := actsOf(device)[operation][i]
			act.Token = device.Token
			e2e.Ask{Method: "GET", Path: "/v1/devices", Token: act.Token}.To(t, relay).Want(t, 200, "") // remembered
			tx, err := db.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tx.Exec(t.Context(), "DELETE FROM sessions WHERE id = $1",
				sessionOf(t, act.Token)); err != nil {
				t.Fatal(err)
			}
			answered := make(chan e2e.Reply, 1)
			go func() { answered <- act.To(t, relay) }()
			early := awaitLock(t, db, answered)
			if err := tx.Commit(t.Context()); err != nil {
				t.Fatal(err)
			}
			if early != nil {
				t.Errorf("%s answered %d while its session was being ended", operation, early.Status)
				continue
			}
			if got := <-answered; got.Status != 401 || got.Code != "unauthorized" {
				t.Errorf("%s answered %d %s after its session had ended", operation, got.Status, got.Code)
			}
		}
	}
}

// changes are the operations that need a token and are no reading.
func changes(t *testing.T) (operations []string) {
	t.Helper()
	contract, err := openapi3.NewLoader().LoadFromData(obscura.OpenAPI)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range contract.Paths.Map() {
		for method, operation := range path.Operations() {
			if method != "GET" && method != "HEAD" && (operation.Security == nil || len(*operation.Security) > 0) {
				operations = append(operations, operation.OperationID)
			}
		}
	}
	return operations
}

func sessionOf(t *testing.T, token string) uuid.UUID {
	t.Helper()
	var claims struct {
		Session uuid.UUID `json:"sid"`
	}
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	if err == nil {
		err = json.Unmarshal(payload, &claims)
	}
	if err != nil {
		t.Fatal(err)
	}
	return claims.Session
}

// awaitLock waits until the relay waits for a lock. It returns an answer that came before.
func awaitLock(t *testing.T, db *pgxpool.Pool, answered chan e2e.Reply) *e2e.Reply {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(relaytest.Patience); ; {
		if len(testdb.Waiting(t, db)) > 0 {
			return nil
		}
		select {
		case early := <-answered:
			return &early
		case <-deadline:
			t.Fatal("neither an answer nor a lock")
		case <-tick.C:
		}
	}
}
