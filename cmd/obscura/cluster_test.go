package main

import (
	"encoding/json"
	"fmt"
	neturl "net/url"
	"os"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/gen/obscurapb"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
	"github.com/obscura-relay/obscura/internal/kit/testdb"
)

func TestAClusterIsRefusedOnPlainPostgreSQL(t *testing.T) {
	t.Parallel()
	environ := []string{"DATABASE_URL=" + testdb.NewURL(t)}
	says(t, environ, "migrate")
	before := says(t, environ, "admin", "stats", "--json")
	for _, args := range [][]string{{"status"}, {"status", "--json"}, {"plan", "--buckets=4"}, {"distribute", "--buckets=4"},
		{"distribute", "--buckets=4", "--trial"}} {
		out := fails(t, environ, append([]string{"cluster"}, args...)...)
		if !strings.HasPrefix(out, "obscura: this database has no extension citus: ") ||
			!strings.Contains(out, "CREATE EXTENSION citus") || strings.Count(out, "\n") != 1 {
			t.Errorf("%v: %s", args, out)
		}
	}
	if after := says(t, environ, "admin", "stats", "--json"); after != before {
		t.Errorf("%s, then %s", before, after)
	}
	if out := fails(t, environ, "cluster", "plan"); !strings.Contains(out, "--buckets=N must be given") {
		t.Error(out)
	}
}

func TestTheCommandsOfAClusterSpeakToPeopleAndPrograms(t *testing.T) {
	t.Parallel()
	url := testdb.NewDivided(t, 1)
	workers := testdb.StandInCitus(t, url, 2)
	var names []any
	for _, w := range workers {
		at, err := neturl.Parse(w.URL)
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, at.Host)
	}
	environ := []string{"DATABASE_URL=" + url}
	prints(t, environ, fmt.Sprintf(`{"citus":"13.2-1","buckets":1,"distributedTables":"0 of 10","fullest":"-","workers":[`+
		`{"worker":"%s","buckets":0,"bytes":0},{"worker":"%s","buckets":0,"bytes":0}]}`+"\n", names...),
		"cluster", "status", "--json")
	out := says(t, environ, "cluster", "plan", "--buckets=8")
	for _, line := range []string{"\nsteps:\nSTEP\ndivide what is kept for devices into 8 buckets", "\ndistribute the table messages\n",
		"\nin the way:\nREASON\nthis command has never been run on Citus"} {
		if !strings.Contains(out, line) {
			t.Errorf("no %q in %s", line, out)
		}
	}
	if out := fails(t, environ, "cluster", "distribute", "--buckets=8"); !strings.Contains(out, "say --trial for a database that may "+
		"be lost; nothing was changed\n") {
		t.Error(out)
	}
	if out := fails(t, environ, "cluster", "distribute", "--buckets=9", "--trial"); !strings.Contains(out, "a multiple of the workers") {
		t.Error(out)
	}
	testdb.Exec(t, url, "INSERT INTO breaks VALUES (1)")
	if out := fails(t, environ, "cluster", "distribute", "--buckets=8", "--trial"); !strings.Contains(out,
		"\ndone before: divide what is kept for devices into 8 buckets") {
		t.Error(out)
	}
	if out := says(t, environ, "cluster", "distribute", "--buckets=8", "--trial"); !strings.Contains(out, "\ndistribute the table messages\n") {
		t.Error(out)
	}
	out = says(t, environ, "cluster", "status")
	for _, line := range []string{"buckets: 8\n", "distributed tables: 10 of 10\n", names[0].(string) + "  4 "} {
		if !strings.Contains(out, line) {
			t.Errorf("no %q in %s", line, out)
		}
	}
	prints(t, environ, `{"done":[]}`+"\n", "cluster", "distribute", "--buckets=8", "--trial", "--json")
	prints(t, environ, `{"steps":[],"inTheWay":[{"reason":"this command has never been run on Citus, and no relay of this version `+
		`can run on what it makes: say --trial for a database that may be lost"}]}`+"\n", "cluster", "plan", "--buckets=8", "--json")
	workers[1].Close()
	out = fails(t, environ, "cluster", "status")
	for _, line := range []string{"buckets: 8\n", fmt.Sprintf("\n%s  4        -\n", names[1]),
		fmt.Sprintf("\nobscura: the worker %s is unavailable: ", names[1])} {
		if !strings.Contains(out, line) {
			t.Errorf("no %q in %s", line, out)
		}
	}
}

// A break after the first step leaves a database of several buckets on one server. Relays go on
// with it, find all mail, and know which batches they have.
func TestARelayGoesOnWithADatabaseThatWasDivided(t *testing.T) {
	t.Parallel()
	url := testdb.NewDivided(t, 1)
	testdb.StandInCitus(t, url, 2)
	testdb.Exec(t, url, "INSERT INTO breaks VALUES (1)")
	environ := []string{"DATABASE_URL=" + url}
	cmd, api, _ := serving(t, environ)
	relay := relaytest.At(t, api)
	alice, bob := relay.Register(t).NewDevice(t), relay.Register(t).NewDevice(t)
	key := uuid.New()
	mail := []*obscurapb.Submission{relaytest.To(alice.ID, "before"), relaytest.To(bob.ID, "too")}
	if failed := bob.Send(t, &key, mail...); len(failed) > 0 {
		t.Fatal(failed)
	}
	distribute := []string{"cluster", "distribute", "--buckets=8", "--trial"}
	if out := fails(t, environ, distribute...); !strings.Contains(out, "stop them first; nothing was changed") {
		t.Error(out)
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if out := fails(t, environ, distribute...); !strings.Contains(out, "could not distribute the table buckets") {
		t.Error(out)
	}
	_, api, _ = serving(t, environ)
	again := relaytest.At(t, api)
	alice, bob = alice.On(again), bob.On(again)
	if failed := bob.Send(t, &key, mail...); len(failed) > 0 {
		t.Fatal(failed)
	}
	if failed := bob.Send(t, nil, relaytest.To(alice.ID, "after"), relaytest.To(bob.ID, "too")); len(failed) > 0 {
		t.Fatal(failed)
	}
	var boxes []struct{ Pending, Accepted int }
	out := says(t, environ, "admin", "mailbox", "show", "--json", alice.User.Name)
	if err := json.Unmarshal([]byte(out), &boxes); err != nil || len(boxes) != 1 || boxes[0].Accepted != 2 ||
		boxes[0].Pending != 2 {
		t.Errorf("%s, %v", out, err)
	}
}

// Nothing but what distributes touches such a database: not even its schema, which is made to look
// older here.
func TestADatabaseDistributedByHalvesIsRefused(t *testing.T) {
	t.Parallel()
	url := testdb.NewDivided(t, 1)
	testdb.StandInCitus(t, url, 2)
	testdb.Exec(t, url, "INSERT INTO breaks VALUES (4)")
	environ := []string{"DATABASE_URL=" + url}
	distribute := []string{"cluster", "distribute", "--buckets=8", "--trial"}
	if out := fails(t, environ, distribute...); !strings.Contains(out, "could not distribute the table ") {
		t.Error(out)
	}
	const sentence = "3 of 10 tables of devices are distributed: repeat obscura cluster distribute until it says that all is done"
	for _, args := range [][]string{{"admin", "stats"}, {"admin", "users", "list"}, {"admin", "users", "delete", "alice"},
		{"admin", "devices", "remove", "alice", "1"}, {"admin", "restored"}, {"admin", "purge", "--older-than=365d", "--delete"},
		{"admin", "keys", "rotate", "tokens"}, {"certificates", "rotate"}} {
		if out := fails(t, environ, args...); out != "obscura: "+sentence+"\n" {
			t.Errorf("%v: %s", args, out)
		}
	}
	says(t, environ, "cluster", "status")
	says(t, environ, "cluster", "plan", "--buckets=8")
	testdb.Exec(t, url, `CREATE TABLE older AS SELECT * FROM goose_db_version;
		DELETE FROM goose_db_version WHERE version_id = (SELECT max(version_id) FROM goose_db_version)`)
	for _, args := range [][]string{{"serve", "--listen=127.0.0.1:0", "--management-listen=127.0.0.1:0"}, {"migrate"}} {
		if out := fails(t, environ, args...); !strings.Contains(out, sentence) {
			t.Errorf("%v: %s", args, out)
		}
	}
	testdb.Exec(t, url, "INSERT INTO goose_db_version SELECT * FROM older EXCEPT SELECT * FROM goose_db_version")
	says(t, environ, distribute...)
	says(t, environ, "admin", "stats")
}

// The check finds no tables in a new database of a cluster, and that is no fault.
func TestANewDatabaseOfAClusterIsMigrated(t *testing.T) {
	t.Parallel()
	url := testdb.NewDivided(t, 1)
	testdb.StandInCitus(t, url, 2)
	testdb.Exec(t, url, "DROP SCHEMA public CASCADE; CREATE SCHEMA public")
	environ := []string{"DATABASE_URL=" + url}
	says(t, environ, "migrate")
	says(t, environ, "admin", "stats")
}
