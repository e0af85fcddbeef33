package account_test

import (
	"strings"
	"testing"

	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

// kept is every column of the database, with where the export shows it, or why it does not: "-" and
// a reason.
var kept = map[string]string{
	"users":                  "id=userId username username_key=username name_key=username password_hash=passwordHash created_at=createdAt devices_version=-public-and-in-every-bundle disabled_at=-who-asks-is-not-disabled seen_on=seenOn",
	"devices":                "id=deviceId user_id=userId number=deviceNumber name created_at=createdAt registration_id=registrationId identity_key=identityKey signed_pre_key_id=signedPreKeyId signed_pre_key=digest signed_pre_key_sig=-public-and-in-every-bundle last_resort_id=lastResortKyberPreKeyId last_resort_key=digest last_resort_sig=-public-and-in-every-bundle",
	"retired_device_numbers": "user_id=userId number=restingDeviceNumbers retired_at=-the-day-is-of-no-use-to-anybody",
	"sessions":               "id=sessionId user_id=userId device_id=deviceId refresh_key=-a-secret created_at=createdAt expires_at=expiresAt",
	"refresh_tokens":         "hash=-a-secret session_id=sessionId expires_at=expiresAt used_at=-only-within-a-session parent=-a-hash-of-a-secret uses=-only-within-a-session",
	"gateway_tickets":        "hash=-a-secret session_id=sessionId expires_at=-thirty-seconds",
	"pre_key_stocks":         "device_id=deviceId ec_floor=-a-hint kyber_floor=-a-hint ec_count=oneTimePreKeyCount kyber_count=kyberPreKeyCount uploads=-a-count-within-the-keys remembered=-it-shows-when-the-number-rests bucket=-it-follows-from-the-id",
	"known_pre_keys":         "user_id=userId device_id=deviceId ec=-digests-of-public-keys kyber=-digests-of-public-keys",
	"ec_pre_keys":            "device_id=deviceId key_id=oneTimePreKeyIds public_key=digest upload=-a-count-within-the-keys bucket=-it-follows-from-the-id",
	"kyber_pre_keys":         "device_id=deviceId key_id=kyberPreKeyIds public_key=digest signature=-public-and-in-every-bundle upload=-a-count-within-the-keys bucket=-it-follows-from-the-id",
	"mailboxes":              "device_id=deviceId next_seq=accepted floor_seq=-a-hint acked_seq=acknowledged pending generation=socketsOpened socket_session=sessionId quiet_from=-a-hint quiet_to=-a-hint takeover_version=-a-count-of-changed-devices bucket=-it-follows-from-the-id",
	"messages":               "device_id=deviceId seq=pending sender_id=-others sender_device_id=-others sender_number=-others accepted_at=-others skipped=-others body=pendingBytes bucket=-it-follows-from-the-id",
	"gaps":                   "device_id=deviceId from_seq=from to_seq=to reason bucket=-it-follows-from-the-id",
	"attachments":            "id user_id=userId size created_at=createdAt expires_at=expiresAt stored=-only-what-is-stored-is-shown",
	"attachment_usage":       "user_id=userId stored_bytes=size day=-today day_bytes=uploadedToday",
	"backups":                "device_id=deviceId version blob=-a-name-in-the-store size stored_at=storedAt upload=-while-it-runs upload_size=-while-it-runs upload_until=-while-it-runs",
	"blob_trash":             "key=-nobody's due_at=-nobody's",
	"receipts":               "sender_device_id=deviceId key=receipts slot=receipts digest=receipts invalid=receipts bucket=-it-follows-from-the-id claim=-how-the-batch-is-stored",
	"push_tokens":            "device_id=deviceId kind address=-a-secret-of-the-service p256dh=-with-the-address auth=-a-secret registered_at=registeredAt woken_at=wokenAt woken_seq=-a-hint bucket=-it-follows-from-the-id",
	"push_wakeups":           "device_id=deviceId kind seq=-a-hint due_at=-seconds attempts=-seconds scheduled_at=-seconds bucket=-it-follows-from-the-id",
	"delivery_tokens":        "hash user_id=userId created_at=createdAt expires_at=expiresAt",
	"invitations":            "hash=-nobody's uses_left=-nobody's created_at=-nobody's expires_at=-nobody's",
	"wrong_passwords":        "name=username slot=-a-hash-of-an-address-or-session failures=count last_at=lastAt next_at=-minutes",
	"password_changes":       "session_id=-it-has-ended user_id=userId ended_at=-told-to-each-device-that-refreshes",
	"account_key":            "secret=-nobody's",
	"vapid_keys":             "one=-nobody's secret=-nobody's created_at=-nobody's",
	"signing_keys":           "id=-nobody's secret=-nobody's created_at=-nobody's",
	"certificate_keys":       "one=-nobody's root_secret=-nobody's server_id=-nobody's server_secret=-nobody's server_certificate=-nobody's created_at=-nobody's",
	"buckets":                "bucket=-nobody's",
	"goose_db_version":       "id=-nobody's version_id=-nobody's is_applied=-nobody's tstamp=-nobody's",
}

// TestNothingIsKeptThatTheExportDoesNotAccountFor fails when a migration adds a column that nobody
// has thought about, and when the export loses one.
func TestNothingIsKeptThatTheExportDoesNotAccountFor(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	device := relay.Register(t).NewDevice(t)
	writeGap(t, relay, device)
	e2e.Attach(t, device, e2e.Random(t, 1))
	e2e.BackUp(t, device, 0, e2e.Random(t, 32)).Want(t, 200, "")
	e2e.Ask{Method: "PUT", Path: "/v1/push-tokens", Token: device.Token,
		Body: e2e.Object("token", "an-app-token")}.To(t, relay).Want(t, 200, "")
	device.NewDeliveryToken(t)
	rows, err := e2e.Database(t, relay).Query(t.Context(), `SELECT table_name, column_name FROM information_schema.columns
		WHERE table_schema = 'public' AND table_name !~ '^receipts_\d$'`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	export := string(e2e.Ask{Method: "GET", Path: "/v1/account", Token: device.Token}.To(t, relay).Want(t, 200,
		"").Body)
	seen := 0
	for rows.Next() {
		var table, column string
		if err := rows.Scan(&table, &column); err != nil {
			t.Fatal(err)
		}
		seen++
		where := ""
		for entry := range strings.FieldsSeq(kept[table]) {
			if name, shown, _ := strings.Cut(entry, "="); name == column {
				if where = shown; shown == "" {
					where = name
				}
			}
		}
		if where == "" || where[0] != '-' && !strings.Contains(export, `"`+where+`":`) {
			t.Errorf("%s.%s is kept and not exported as %q", table, column, where)
		}
	}
	if err := rows.Err(); err != nil || seen < 60 {
		t.Errorf("%d columns, %v", seen, err)
	}
}

// writeGap leaves a gap in a mailbox.
func writeGap(t *testing.T, relay *relaytest.Relay, device *relaytest.Device) {
	t.Helper()
	if _, err := e2e.Database(t, relay).Exec(t.Context(), `INSERT INTO gaps SELECT $1, 1, 2, 2`,
		device.ID); err != nil {
		t.Fatal(err)
	}
}
