package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/obscura-relay/obscura/internal/kit/testdb"
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
		!strings.Contains(table, "  never\n") {
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
	for flag, want := range map[string]string{"--uses=0": "--uses must be at least 1",
		"--expires=soon": "never",
		"--expires=0s":   "never", "--expires=36501d": "never", "--expires=-1d": "never"} {
		if out := fails(t, environ, "admin", "invite", "create", flag); !strings.Contains(out, want) {
			t.Errorf("%s: %s", flag, out)
		}
	}
}

func TestConfigurationsAreCheckedWithoutTheirValues(t *testing.T) {
	t.Parallel()
	environ := []string{"OBSCURA_TOKEN_KEY=" + strings.Repeat("A", 44), "OBSCURA_REGISTRATION=closed"}
	prints(t, environ, "the configuration is valid; set: --log-level --registration --token-key\n",
		"admin", "config", "check", "--log-level=info")
	prints(t, nil, `{"set":[]}`+"\n", "admin", "config", "check", "--json")
	if out := fails(t, []string{"OBSCURA_REGISTRATION=no"}, "admin", "config", "check"); !strings.Contains(out, "closed") {
		t.Error(out)
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
	if out := fails(t, environ, "admin", "doctor", "--url=relay"); !strings.Contains(out, "https://relay.example.org") {
		t.Error(out)
	}
}
