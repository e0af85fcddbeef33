package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/obscura-relay/obscura/internal/kit/relaytest"
	"github.com/obscura-relay/obscura/internal/kit/testdb"
	"github.com/obscura-relay/obscura/internal/kit/wait"
)

// says runs a command that succeeds and returns its standard output.
func says(t *testing.T, environ []string, args ...string) string {
	t.Helper()
	out, err := command(t, environ, args...).Output()
	if err != nil {
		t.Fatalf("%v: %v: %s", args, err, out)
	}
	return string(out)
}

func TestInvitationsAreMadeListedAndRevoked(t *testing.T) {
	t.Parallel()
	environ := []string{"DATABASE_URL=" + testdb.NewURL(t)}
	first := says(t, environ, "admin", "invite", "create")
	if len(first) != 44 || !strings.HasSuffix(first, "\n") {
		t.Errorf("an invitation is %q", first)
	}
	var second struct {
		Invitation string
		UsesLeft   int
		ExpiresAt  *time.Time
	}
	out := says(t, environ, "admin", "invite", "create", "--uses=5", "--expires=never", "--json")
	if err := json.Unmarshal([]byte(out), &second); err != nil || len(second.Invitation) != 43 ||
		second.UsesLeft != 5 || second.ExpiresAt != nil {
		t.Errorf("%s, %v", out, err)
	}
	var list []struct {
		Hash                 string
		UsesLeft             int
		CreatedAt, ExpiresAt *time.Time
	}
	out = says(t, environ, "admin", "invite", "list", "--json")
	if err := json.Unmarshal([]byte(out), &list); err != nil || len(list) != 2 || list[0].UsesLeft != 1 ||
		list[0].ExpiresAt == nil || list[0].ExpiresAt.Sub(*list[0].CreatedAt) != 7*24*time.Hour ||
		list[1].UsesLeft != 5 || list[1].ExpiresAt != nil {
		t.Fatalf("%s, %v", out, err)
	}
	table := says(t, environ, "admin", "invite", "list")
	if strings.Contains(table+out, second.Invitation) || !strings.Contains(table, list[1].Hash+"  5          ") ||
		!strings.Contains(table, "  -\n") {
		t.Errorf("the list: %s", table)
	}
	prints(t, environ, "revoked: "+list[0].Hash+"\n", "admin", "invite", "revoke", list[0].Hash)
	prints(t, environ, `{"revoked":"`+list[1].Hash+`"}`+"\n", "admin", "invite", "revoke", "--json", list[1].Hash[:6])
	prints(t, environ, "[]\n", "admin", "invite", "list", "--json")
	for hash, want := range map[string]string{list[0].Hash: "no invitation has a hash", "abc": "4 to 64 of 0-9",
		"%%%%": "4 to 64 of 0-9"} {
		if out := fails(t, environ, "admin", "invite", "revoke", hash); !strings.Contains(out, want) {
			t.Errorf("%s: %s", hash, out)
		}
	}
	const uses = "--uses must be a whole number from 1 to 2147483647"
	for flag, want := range map[string]string{"--uses=0": uses, "--uses=-1": uses, "--uses -1": uses,
		"--uses 2147483648": uses, "--uses many": uses, "--expires=soon": "never",
		"--expires=0s": "never", "--expires=36501d": "never", "--expires=-1d": "never"} {
		if out := fails(t, environ, append([]string{"admin", "invite", "create"}, strings.Fields(flag)...)...); !strings.Contains(out, want) {
			t.Errorf("%s: %s", flag, out)
		}
	}
}

func TestConfigurationsAreCheckedWithoutTheirValues(t *testing.T) {
	t.Parallel()
	environ := []string{"OBSCURA_TOKEN_KEY=" + strings.Repeat("A", 44), "OBSCURA_REGISTRATION=closed"}
	prints(t, environ, "the configuration is valid; set: --log-level --registration --token-key\n",
		"admin", "config", "check", "--log-level=info")
	prints(t, nil, "the configuration is valid; set: nothing\n", "admin", "config", "check")
	prints(t, nil, `{"set":[]}`+"\n", "admin", "config", "check", "--json")
	if out := fails(t, []string{"OBSCURA_REGISTRATION=no"}, "admin", "config", "check"); !strings.Contains(out, "closed") {
		t.Error(out)
	}
}

// A database that this user cannot see is not one that is not there.
func TestAFolderThatCannotBeLookedIntoIsSaid(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "postgres"), nil, 0o600); err != nil { // also for root
		t.Fatal(err)
	}
	environ := []string{"OBSCURA_DATA_DIR=" + folder, "OBSCURA_LISTEN=127.0.0.1:0", "OBSCURA_MANAGEMENT_LISTEN=127.0.0.1:0"}
	for _, command := range []string{"stats", "doctor"} {
		want := "the data folder " + folder + " cannot be looked into: not a directory: run this as the user that runs the relay"
		if out := fails(t, environ, "admin", command); !strings.Contains(out, want) {
			t.Errorf("%s: %s", command, out)
		}
	}
}

func TestTheDoctorIsAskedFromTheCommandLine(t *testing.T) {
	t.Parallel()
	environ := []string{"DATABASE_URL=" + testdb.NewURL(t), "OBSCURA_DATA_DIR=" + t.TempDir()}
	out := fails(t, environ, "admin", "doctor") // the servers of tests run without fsync
	for _, line := range []string{"problem  fsync: off\n         do: turn it on: ", "ok       notices: they come back\n",
		"obscura: there are 2 problems\n"} {
		if !strings.Contains(out, line) {
			t.Errorf("no %q in %s", line, out)
		}
	}
	for _, url := range []string{"relay", "https://somebody:hunter2@relay.example.org"} {
		if out := fails(t, environ, "admin", "doctor", "--url="+url); !strings.Contains(out, "https://relay.example.org") ||
			strings.Contains(out, "hunter2") {
			t.Error(out)
		}
	}
}

// TestTheOperatorsCommandsBesideARunningRelay has every command say what is so, to people and to
// programs. What they do on the wire is tested in internal/kit/e2e/account.
func TestTheOperatorsCommandsBesideARunningRelay(t *testing.T) {
	t.Parallel()
	environ := []string{"DATABASE_URL=" + testdb.NewURL(t)}
	_, api, _ := serving(t, environ)
	relay := relaytest.At(t, api)
	alice := relay.Register(t)
	phone, bob := alice.NewDevice(t), relay.Register(t).NewDevice(t)
	if failed := bob.Send(t, nil, relaytest.To(phone.ID, "0123456789"), relaytest.To(phone.ID, "0")); len(failed) > 0 {
		t.Fatal(failed)
	}
	holds := func(what, out string, all ...string) {
		t.Helper()
		for _, want := range all {
			if !strings.Contains(out, want) {
				t.Errorf("%s lacks %s: %s", what, want, out)
			}
		}
	}
	holds("users list", says(t, environ, "admin", "users", "list"), "USERNAME", alice.Name, alice.ID.String())
	var users []struct{ Username, UserID string }
	out := says(t, environ, "admin", "users", "list", "--json")
	if err := json.Unmarshal([]byte(out), &users); err != nil || len(users) != 2 {
		t.Errorf("%s, %v", out, err)
	}
	var shown struct {
		UserID   string
		Devices  []struct{ DeviceID string }
		Sessions []struct{ DeviceID *string }
	}
	out = says(t, environ, "admin", "users", "show", "--json", strings.ToUpper(alice.Name)) // as log-ins compare it
	if err := json.Unmarshal([]byte(out), &shown); err != nil || shown.UserID != alice.ID.String() ||
		len(shown.Devices) != 1 || shown.Devices[0].DeviceID != phone.ID.String() || len(shown.Sessions) != 2 {
		t.Errorf("%s, %v", out, err)
	}
	holds("users show", says(t, environ, "admin", "users", "show", alice.ID.String()), "username: "+alice.Name+"\n",
		"\ndevices:\nDEVICE ID ", phone.ID.String()+"  1 ", "\nsessions:\nSESSION ID ")
	holds("devices list", says(t, environ, "admin", "devices", "list", alice.Name), phone.ID.String())
	var boxes []struct {
		Pending, PendingBytes, Accepted, Acknowledged int
		Oldest                                        *time.Time
		Gaps                                          []struct{ From, To int }
	}
	out = says(t, environ, "admin", "mailbox", "show", "--json", alice.Name)
	if err := json.Unmarshal([]byte(out), &boxes); err != nil || len(boxes) != 1 || boxes[0].Pending != 2 ||
		boxes[0].PendingBytes != 11 || boxes[0].Accepted != 2 || boxes[0].Oldest == nil || len(boxes[0].Gaps) != 0 {
		t.Errorf("%s, %v", out, err)
	}
	for _, secret := range []string{bob.ID.String(), bob.User.ID.String(), "0123456789"} {
		if strings.Contains(out, secret) {
			t.Errorf("the mailbox tells %s", secret)
		}
	}
	holds("stats", says(t, environ, "admin", "stats"), "users: 2\n", "devices: 2\n", "pending envelopes: 2\n",
		"mailboxes with mail: 1\n")
	prints(t, environ, `{"rotated":"tokens"}`+"\n", "admin", "keys", "rotate", "tokens", "--json")
	prints(t, environ, "trust root: "+trustRoot(t, api)+"\nserver certificate: 2\n", "admin", "keys", "rotate",
		"certificates")
	before := trustRoot(t, api)
	holds("keys rotate trust-root", says(t, environ, "admin", "keys", "rotate", "trust-root", "--json"), `"serverCertificate":1`)
	wait.Eventually(t, "the relay has the new root", func() bool { return trustRoot(t, api) != before })
	prints(t, environ, `{"forgotten":"`+alice.ID.String()+`"}`+"\n", "admin", "users", "forget-wrong-passwords",
		"--json", alice.Name)
	prints(t, environ, "ended: 2\n", "admin", "sessions", "end", alice.Name)
	for _, whose := range [][]string{{}, {alice.Name, "--everybody"}} {
		if out := fails(t, environ, append([]string{"admin", "sessions", "end"}, whose...)...); !strings.Contains(out,
			"give one user, or --everybody, and not both") {
			t.Error(out)
		}
	}
	prints(t, environ, `{"ended":2}`+"\n", "admin", "sessions", "end", "--everybody", "--json")
	if out := fails(t, environ, "admin", "restored"); !strings.Contains(out, "a relay runs on this database") {
		t.Error(out)
	}
	if password := says(t, environ, "admin", "users", "reset-password", alice.Name); len(password) != 27 {
		t.Errorf("a password of %d characters", len(password)-1)
	}
	for _, device := range []string{"2", bob.ID.String()} {
		if out := fails(t, environ, "admin", "devices", "remove", alice.Name, device); !strings.Contains(out,
			"the user has no such device") {
			t.Error(out)
		}
	}
	prints(t, environ, "disabled: "+alice.ID.String()+"\n", "admin", "users", "disable", alice.Name)
	holds("users show", says(t, environ, "admin", "users", "show", alice.Name), "seen on: 2", "disabled at: 2")
	holds("stats", says(t, environ, "admin", "stats"), "disabled users: 1\n")
	prints(t, environ, `{"enabled":"`+alice.ID.String()+`"}`+"\n", "admin", "users", "enable", "--json", alice.Name)
	prints(t, environ, `{"deleted":false,"count":0,"users":[]}`+"\n", "admin", "purge", "--older-than=1d", "--json")
	if out := fails(t, environ, "admin", "purge"); !strings.Contains(out, "--older-than") {
		t.Error(out)
	}
	prints(t, environ, "removed: "+phone.ID.String()+"\n", "admin", "devices", "remove", alice.Name, "1")
	prints(t, environ, `{"deleted":"`+alice.ID.String()+`"}`+"\n", "admin", "users", "delete", "--json", alice.Name)
	for _, gone := range [][]string{{"users", "show"}, {"users", "delete"}, {"users", "reset-password"},
		{"sessions", "end"}, {"devices", "list"}, {"mailbox", "show"}} {
		for _, name := range []string{alice.Name, alice.ID.String(), "no such name"} {
			if out := fails(t, environ, append([]string{"admin"}, append(gone, name)...)...); !strings.Contains(out,
				"obscura: there is no such user") {
				t.Errorf("%v: %s", gone, out)
			}
		}
	}
	if out := says(t, environ, "admin", "users", "list"); strings.Contains(out, alice.Name) ||
		!strings.Contains(out, bob.User.Name) {
		t.Errorf("after the deletion: %s", out)
	}
}

func TestTheTrashIsShownAndEmptied(t *testing.T) {
	t.Parallel()
	url := testdb.NewURL(t)
	environ := []string{"DATABASE_URL=" + url}
	says(t, environ, "migrate")
	db, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close(t.Context()) }()
	const key = "attachments/5ad3d5a5-6a0e-4d0e-8a5f-1f2a3b4c5d6e"
	if _, err := db.Exec(t.Context(), `INSERT INTO blob_trash VALUES ($1, now() + interval '1 hour')`, key); err != nil {
		t.Fatal(err)
	}
	if out := says(t, environ, "admin", "trash", "list"); !strings.Contains(out, key) {
		t.Errorf("the list: %s", out)
	}
	prints(t, environ, "due: 1\n", "admin", "trash", "empty")
	serving(t, environ) // it deletes what is due
	wait.Eventually(t, "the trash is empty", func() bool {
		return says(t, environ, "admin", "trash", "list", "--json") == "[]\n"
	})
}

// A node of the next version has brought the schema further. This binary goes on beside it, as its
// commands do; a newer binary's commands refuse an older schema.
func TestTheOperatorsCommandsAndTheVersionOfTheSchema(t *testing.T) {
	t.Parallel()
	url := testdb.NewURL(t)
	environ := []string{"DATABASE_URL=" + url}
	_, api, _ := serving(t, environ)
	alice := relaytest.At(t, api).Register(t)
	db, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close(t.Context()) }()
	change := func(sql string) {
		t.Helper()
		if _, err := db.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	change(`ALTER TABLE users ADD COLUMN of_the_future text NOT NULL DEFAULT 'x'`)
	change(`INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, true)`)
	says(t, environ, "admin", "users", "list")
	says(t, environ, "admin", "stats")
	prints(t, environ, "disabled: "+alice.ID.String()+"\n", "admin", "users", "disable", alice.Name)
	prints(t, environ, "deleted: "+alice.ID.String()+"\n", "admin", "users", "delete", alice.Name)
	change(`DELETE FROM goose_db_version WHERE version_id IN (9999, (SELECT max(version_id) FROM goose_db_version WHERE version_id < 9999))`)
	if out := fails(t, environ, "admin", "users", "list"); !strings.Contains(out, "older than this binary") {
		t.Error(out)
	}
}
