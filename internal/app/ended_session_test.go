package app_test

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
	"github.com/obscura-relay/obscura/internal/kit/prekeytest"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

// notOfTheAccount are the operations that ask with a token and change nothing of the account that asks.
var notOfTheAccount = map[string]string{"sendMessages": "it changes the mailboxes of others"}

// actsOf makes one request, or several, for every operation that changes the account of a device.
func actsOf(d *relaytest.Device) map[string][]ask {
	blob := strings.Repeat("x", 64)
	identity := prekeytest.NewIdentity()
	return map[string][]ask{
		"deleteSession":       {{method: "DELETE", path: "/v1/sessions", body: object("refreshToken", d.Refresh)}},
		"deleteAccount":       {{method: "DELETE", path: "/v1/account", body: object("password", relaytest.Password)}},
		"changePassword":      {{method: "PUT", path: "/v1/account/password", body: object("currentPassword", relaytest.Password, "newPassword", relaytest.Password+"!")}},
		"createDevice":        {{method: "POST", path: "/v1/devices", body: asJSON(relaytest.NewDevice(identity, 2, 1))}},
		"uploadKeys":          {{method: "POST", path: "/v1/devices/keys", body: asJSON(client.KeyUpload{OneTimePreKeys: ecKeys(50, 2)})}, {method: "POST", path: "/v1/devices/keys", body: asJSON(takeoverBy(identity))}},
		"updateDevice":        {{method: "PUT", path: "/v1/devices/" + d.ID.String(), body: object("name", "changed")}},
		"deleteDevice":        {{method: "DELETE", path: "/v1/devices/" + d.ID.String()}},
		"createGatewayTicket": {{method: "POST", path: "/v1/gateway/ticket"}},
		"uploadAttachment":    {{method: "POST", path: "/v1/attachments", media: "application/octet-stream", body: blob}},
		"uploadBackup":        {{method: "POST", path: "/v1/backup", media: "application/octet-stream", body: blob, header: map[string]string{"If-None-Match": "*"}}},
		"setPushToken":        {{method: "PUT", path: "/v1/push-tokens", body: object("token", "some-token")}},
		"deletePushToken":     {{method: "DELETE", path: "/v1/push-tokens"}},
	}
}

func asJSON(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}

// A session is being ended elsewhere, in a transaction that is not yet committed: whatever it asks to change
// waits for that and is then refused. The node believes the token, for it has heard of no revocation.
func TestAnEndedSessionChangesNothing(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	db := inside(t, relay)
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
			act.token = device.Token
			ask{method: "GET", path: "/v1/devices", token: act.token}.to(t, relay).want(t, 200, "") // remembered
			tx, err := db.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tx.Exec(t.Context(), "DELETE FROM sessions WHERE id = $1", sessionOf(t, act.token)); err != nil {
				t.Fatal(err)
			}
			answered := make(chan reply, 1)
			go func() { answered <- act.to(t, relay) }()
			early := awaitLock(t, db, answered)
			if err := tx.Commit(t.Context()); err != nil {
				t.Fatal(err)
			}
			if early != nil {
				t.Errorf("%s answered %d while its session was being ended", operation, early.status)
				continue
			}
			if got := <-answered; got.status != 401 || got.code != "unauthorized" {
				t.Errorf("%s answered %d %s after its session had ended", operation, got.status, got.code)
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
func awaitLock(t *testing.T, db *pgxpool.Pool, answered chan reply) *reply {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(relaytest.Patience); ; {
		var waiting bool
		err := db.QueryRow(t.Context(), `SELECT count(*) > 0 FROM pg_stat_activity
			WHERE datname = current_database() AND wait_event_type = 'Lock' AND application_name = 'obscura'`).Scan(&waiting)
		if err != nil {
			t.Fatal(err)
		}
		if waiting {
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
