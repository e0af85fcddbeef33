// Package restore_test is the drill of a disaster: backups made and restored by Debian's programs
// of PostgreSQL, with the commands of docs/operations.md, and what clients see afterwards. All but
// one test need root and Debian's postgresql, and run by `make drill`.
package restore_test

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/gen/client"
	"github.com/obscura-relay/obscura/internal/admin"
	"github.com/obscura-relay/obscura/internal/app"
	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
	"github.com/obscura-relay/obscura/internal/kit/testdb"
)

var drill = flag.Bool("drill", false, "run the drill")

func TestMain(m *testing.M) { relaytest.Main(m) }

// machine is a folder in which the commands of the document find what they name: bin/obscura, and a
// PostgreSQL of Debian's in data/postgres.
type machine struct {
	dir string
	url string // of the relay's database
}

// newMachine starts an empty server. Debian's PostgreSQL does not run as root.
func newMachine(t *testing.T) *machine {
	t.Helper()
	m := &machine{dir: t.TempDir()}
	m.url = m.database("obscura")
	for _, folder := range []string{m.dir, filepath.Dir(m.dir)} { // the two that TempDir makes
		if err := os.Chmod(folder, 0o755); err != nil { // another account passes through
			t.Fatal(err)
		}
	}
	m.run(t, `mkdir -p bin data && go build -C "$OLDPWD" -o "$PWD/bin/obscura" ./cmd/obscura
install -d -o postgres data/postgres data/postgres/run data/postgres/archive data/postgres/backup`)
	m.asPostgres(t, `"$bin/initdb" --pgdata="$PWD/server" --username=obscura --auth=trust --encoding=UTF8 >/dev/null
cat >> server/postgresql.conf <<'EOF'
listen_addresses = ''
unix_socket_directories = '`+m.dir+`/data/postgres/run'
`+m.documented(t, "ini", "archive_command")+"EOF")
	m.start(t)
	m.run(t, `createdb --maintenance-db="postgres://obscura@/postgres?host=$PWD/data/postgres/run" obscura`)
	return m
}

func (m *machine) database(name string) string {
	return "postgres://obscura@/" + name + "?host=" + m.dir + "/data/postgres/run"
}

func (m *machine) start(t *testing.T) {
	t.Helper()
	m.asPostgres(t, `"$bin/pg_ctl" --pgdata="$PWD/server" --wait --log=log start >/dev/null || { cat log; exit 1; }`)
	t.Cleanup(func() { m.stop(t) })
}

// stop ends the server as a disaster does; it may have ended.
func (m *machine) stop(t *testing.T) {
	t.Helper()
	m.asPostgres(t, `"$bin/pg_ctl" --pgdata="$PWD/server" --mode=immediate stop >/dev/null 2>&1 || true`)
}

func (m *machine) asPostgres(t *testing.T, script string) {
	t.Helper()
	m.run(t, `cd data/postgres && su postgres -s /bin/bash <<'END'
set -euo pipefail
bin=$(ls -d /usr/lib/postgresql/*/bin | tail -n 1)
`+script+"\nEND")
}

func (m *machine) run(t *testing.T, script string) {
	t.Helper()
	if out, err := m.try(script); err != nil {
		t.Fatalf("%v\n%s\n%s", err, script, out)
	}
}

// try runs a script in the folder of the machine; OLDPWD is the checkout.
func (m *machine) try(script string) (string, error) {
	cmd := exec.Command("bash", "-euo", "pipefail", "-c", `cd "$0"`+"\n"+script, m.dir)
	cmd.Dir, cmd.Env = "../../../..", append(os.Environ(), "DATABASE_URL="+m.url)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// documented returns the block of the document that contains a text.
func documented(t *testing.T, language, text string) string {
	t.Helper()
	document, err := os.ReadFile("../../../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range regexp.MustCompile("(?ms)^```"+language+"(?: run)?\n(.*?)^```").FindAllSubmatch(document, -1) {
		if bytes.Contains(block[1], []byte(text)) {
			return string(block[1])
		}
	}
	t.Fatalf("operations.md has no block with %s", text)
	return ""
}

// documented is the same with the folders of this machine.
func (m *machine) documented(t *testing.T, language, text string) string {
	t.Helper()
	folder := m.dir + "/data/postgres"
	return strings.NewReplacer("/archive/", folder+"/archive/", "/backup/", folder+"/backup/").Replace(
		documented(t, language, text))
}

// past is what people did before a backup and after it.
type past struct {
	relay      *relaytest.Relay
	alice, bob *relaytest.Device
	attachment client.Attachment
	content    []byte
	ids        map[uuid.UUID]bool // of every envelope that bob has seen
	version    int64              // of bob's devices, the highest
	pending    []string           // mail that bob has not acknowledged
}

func begin(t *testing.T, relay *relaytest.Relay) *past {
	t.Helper()
	p := &past{relay: relay, alice: relay.Register(t).NewDevice(t), bob: relay.Register(t).NewDevice(t),
		ids: map[uuid.UUID]bool{}, content: e2e.Random(t, 100_000)}
	p.attachment = e2e.Attach(t, p.alice, p.content)
	e2e.SendMany(t, p.alice, p.bob, "first", 10)
	p.receive(t, 10)
	p.send(t, "before", 10)
	return p
}

// send sends what is pending at the time of a backup.
func (p *past) send(t *testing.T, name string, n int) {
	t.Helper()
	e2e.SendMany(t, p.alice, p.bob, name, n)
	p.receive(t, 0)
	for i := range n {
		p.pending = append(p.pending, fmt.Sprintf("%s-%d", name, i))
	}
}

// receive connects bob, who acknowledges the first few.
func (p *past) receive(t *testing.T, acknowledged int) {
	t.Helper()
	socket := p.bob.Connect(t)
	all, _, _ := socket.Drain()
	for _, e := range all {
		p.ids[uuid.UUID(e.GetId())] = true
	}
	socket.Ack(all[:acknowledged]...)
	db := e2e.Database(t, p.relay)
	e2e.Pending(t, db, p.bob.ID, len(all)-acknowledged)
	db.Close()
	e2e.Disconnect(socket)
}

// goOn is what a restore forgets: mail, hand-outs, a device.
func (p *past) goOn(t *testing.T) {
	t.Helper()
	e2e.SendMany(t, p.alice, p.bob, "after", 10)
	p.receive(t, len(p.pending)+10)
	e2e.FetchBundle(t, p.alice, p.bob.User.ID)
	p.bob.User.NewDevice(t)
	p.version = e2e.FetchBundles(t, p.alice, p.bob.User.ID)[0].DevicesVersion
}

// check is what clients see of a relay on the restored database.
func (p *past) check(t *testing.T, relay *relaytest.Relay) {
	t.Helper()
	alice, bob := p.alice.On(relay), p.bob.On(relay)
	socket := bob.Connect(t)
	all, gaps, _ := socket.Drain()
	var got []string
	for _, e := range all {
		got = append(got, string(e.GetMessage()))
		if !p.ids[uuid.UUID(e.GetId())] {
			t.Errorf("%s comes with another id than before", e.GetMessage())
		}
	}
	if strings.Join(got, " ") != strings.Join(p.pending, " ") {
		t.Errorf("bob gets %s, want %s", got, p.pending)
	}
	last := uint64(10 + len(p.pending))
	if len(gaps) != 1 || gaps[0].GetFrom() != last+1 || gaps[0].GetTo() != last+1_000_000 {
		t.Errorf("bob hears of the gaps %v", gaps)
	}
	if n := socket.Status.GetOneTimePreKeyCount() + socket.Status.GetKyberPreKeyCount(); n != 0 {
		t.Errorf("%d one-time keys that may have been handed out", n)
	}
	socket.Ack(all...)
	e2e.SendMany(t, alice, bob, "new", 1)
	fresh := socket.Envelopes(1)[0]
	if p.ids[uuid.UUID(fresh.GetId())] || fresh.GetSequence() <= 1_000_000 {
		t.Errorf("new mail has a number or an id that bob has seen: %d", fresh.GetSequence())
	}
	bundle := e2e.FetchBundle(t, alice, bob.User.ID)
	if bundle.OneTimePreKey != nil || bundle.KyberPreKey.KeyID != 1 { // the one of last resort
		t.Errorf("one-time keys are handed out again: %+v", bundle)
	}
	if bundle.DevicesVersion <= p.version {
		t.Errorf("the devices have the version %d, and senders know another list as %d", bundle.DevicesVersion, p.version)
	}
	answer, err := alice.DownloadAttachment(t.Context(), p.attachment.ID, &client.DownloadAttachmentParams{})
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if content, err := io.ReadAll(answer.Body); err != nil || answer.StatusCode != http.StatusOK ||
		!bytes.Equal(content, p.content) {
		t.Errorf("the attachment: %d, %d bytes, %v", answer.StatusCode, len(content), err)
	}
}

// serve runs a relay on a database, with a folder of blobs.
func serve(t *testing.T, url, blobs string) *relaytest.Relay {
	t.Helper()
	return relaytest.StartOn(t, url, func(c *app.Config) { c.BlobURL = "file://" + blobs })
}

func TestABackupIsRestoredOnAnotherMachine(t *testing.T) {
	if !*drill {
		return
	}
	old, next := newMachine(t), newMachine(t)
	blobs := t.TempDir()
	p := begin(t, serve(t, old.url, blobs))
	old.run(t, documented(t, "sh", "pg_dump "))
	old.run(t, "cp -a "+blobs+" blobs && cp -a obscura.dump blobs "+next.dir)
	p.goOn(t)
	p.relay.Stop()
	old.stop(t)

	installed := serve(t, next.url, t.TempDir()) // with an empty database
	restore := documented(t, "sh", "pg_restore ")
	next.run(t, restore)
	restored := "RESTORED=" + "'" + next.database("restored") + "'\n"
	next.run(t, restored+documented(t, "sh", "admin restored"))
	next.run(t, restored+documented(t, "sh", "RENAME TO obscura"))
	installed.Stop()
	relay := serve(t, next.url, filepath.Join(next.dir, "blobs"))
	p.check(t, relay)
	relay.Stop()

	const content = `pg_dump --data-only "$DATABASE_URL" | grep -v restrict` // whose key is random
	before, err := next.try(content)
	if err != nil {
		t.Fatal(before)
	}
	_, again, _ := strings.Cut(restore, "pg_restore")
	said, err := next.try(`RESTORED="$DATABASE_URL"; pg_restore` + again)
	if err == nil || !strings.Contains(said, "already exists") {
		t.Errorf("a restore into a database that is not empty: %v, %s", err, said)
	}
	if after, err := next.try(content); err != nil || after != before {
		t.Errorf("the refused restore changed the database, or %v", err)
	}
}

// TestADatabaseThatComesFromABackupIsTold needs no programs: nothing has happened since.
func TestADatabaseThatComesFromABackupIsTold(t *testing.T) {
	blobs := t.TempDir()
	p := begin(t, serve(t, testdb.NewURL(t), blobs))
	p.version = e2e.FetchBundles(t, p.alice, p.bob.User.ID)[0].DevicesVersion
	url := p.relay.DatabaseURL
	tell := func() (string, error) {
		var out strings.Builder
		err := app.Administer(t.Context(), app.Database{DatabaseURL: url}, admin.Restored{}, true, &out, io.Discard)
		return out.String(), err
	}
	if said, err := tell(); err == nil || !strings.Contains(err.Error(), "a relay runs on this database") {
		t.Errorf("beside a relay: %s, %v", said, err)
	}
	p.relay.Stop()
	if said, err := tell(); err != nil || said != `{"mailboxes":2,"users":2}`+"\n" {
		t.Fatalf("%s, %v", said, err)
	}
	p.check(t, serve(t, url, blobs))
}

func TestAPointInTimeIsRecovered(t *testing.T) {
	if !*drill {
		return
	}
	m := newMachine(t)
	blobs := t.TempDir()
	p := begin(t, serve(t, m.url, blobs))
	m.run(t, `export PGHOST="$PWD/data/postgres/run" PGUSER=obscura`+"\n"+m.documented(t, "sh", "pg_basebackup"))
	p.send(t, "later", 5)
	until, err := m.try(`psql -qAt --command='SELECT now()' "$DATABASE_URL"`)
	if err != nil {
		t.Fatal(until, err)
	}
	p.goOn(t)
	m.run(t, `wal=$(psql -qAt --command='SELECT pg_walfile_name(pg_switch_wal())' "$DATABASE_URL") # as archive_timeout does
for i in {1..300}; do [ -f "data/postgres/archive/$wal" ] && exit 0; sleep 0.1; done; exit 1`)
	p.relay.Stop()
	m.stop(t)
	settings := regexp.MustCompile(`(_time = ').*'`).ReplaceAllString(m.documented(t, "ini", "recovery_target_time"),
		"${1}"+strings.TrimSpace(until)+"'")
	m.asPostgres(t, `mv server lost && mv backup/* server && touch server/recovery.signal
cat >> server/postgresql.conf <<'EOF'
`+settings+"EOF")
	m.start(t)
	m.run(t, `for i in {1..100}; do [ "$(psql -qAt --command='SELECT pg_is_in_recovery()' "$DATABASE_URL")" = f ] && exit 0; sleep 0.1; done; exit 1`)
	m.run(t, `RESTORED="$DATABASE_URL"`+"\n"+documented(t, "sh", "admin restored"))
	p.check(t, serve(t, m.url, blobs))
}
