package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strconv"
	"time"

	"github.com/obscura-relay/obscura/gen/db"
	"github.com/obscura-relay/obscura/internal/notice"
	"github.com/obscura-relay/obscura/internal/postgres"
	"github.com/obscura-relay/obscura/internal/storage"
	"github.com/obscura-relay/obscura/schema"
)

// serverSetting is one of PostgreSQL that matters to the relay, in the units of pg_settings.
type serverSetting struct {
	name   string
	good   func(value string) bool
	state  State // when it is not good
	advice string
}

func is(want string) func(string) bool { return func(value string) bool { return value == want } }

func atMost(most int) func(string) bool {
	return func(value string) bool {
		n, err := strconv.Atoi(value)
		return err == nil && n <= most
	}
}

const (
	adviceLost   = "turn it on: without it accepted messages are lost when the machine crashes"
	adviceLogged = "PostgreSQL's log may hold the values of statements: "
	// adviceReload is how a setting is changed.
	adviceReload = "ALTER SYSTEM SET %s; SELECT pg_reload_conf()"
)

var serverSettings = []serverSetting{
	{"autovacuum", is("on"), StateProblem, "turn it on: without it the tables of mailboxes grow for ever"},
	{"autovacuum_naptime", atMost(10), StateWarning,
		"set it to 1s: mailboxes fill and empty all day (" + fmt.Sprintf(adviceReload, "autovacuum_naptime = '1s'") + ")"},
	{"fsync", is("on"), StateProblem, adviceLost},
	{"full_page_writes", is("on"), StateProblem, adviceLost},
	{"log_statement", is("none"), StateWarning, adviceLogged + fmt.Sprintf(adviceReload, "log_statement = 'none'")},
	{"log_min_duration_statement", is("-1"), StateWarning,
		adviceLogged + fmt.Sprintf(adviceReload, "log_min_duration_statement = -1")},
	{"log_min_error_statement", is("panic"), StateWarning,
		adviceLogged + fmt.Sprintf(adviceReload, "log_min_error_statement = 'panic'")},
	{"default_transaction_read_only", is("off"), StateProblem, "requests that write answer 503 until it is off"},
}

// listenersOfANode are the connections beside those for requests and acknowledgements.
const listenersOfANode = 2

// database looks at PostgreSQL and at what is in it.
func (d *doctor) database(ctx context.Context) {
	folder := filepath.Join(d.cfg.DataDir, "postgres")
	if exists, _, err := postgres.Find(folder); err == nil && !exists && d.cfg.DatabaseURL == "" {
		d.say("database", StateWarning, "there is none in "+folder+" yet; the relay makes a private one at its start",
			"to use another, name it with --database-url (OBSCURA_DATABASE_URL)")
		return
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if d.cfg.DatabaseURL != "" { // a private server may have to be started, which takes its time
		var enough context.CancelFunc
		ctx, enough = context.WithTimeout(ctx, 2*askTime)
		defer enough()
	}
	err := withAnyDatabase(ctx, d.cfg.Database, slog.New(slog.DiscardHandler), func(all *database) error {
		before := time.Now()
		var server db.InspectServerRow
		err := all.main.Do(ctx, func(conn *storage.Tx) (err error) {
			server, err = storage.Queries.InspectServer(ctx, conn)
			return err
		})
		if err != nil {
			return err
		}
		d.server(server, time.Since(before))
		d.clock(server.Clock.Sub(before.Add(time.Since(before) / 2)))
		if err := d.settings(ctx, all.main, server.Connections); err != nil {
			return err
		}
		d.schema(all.main.SchemaVersion(ctx))
		d.judge("notices", notice.Prove(ctx, all.url, all.main), "they come back",
			"PostgreSQL must reach the relay with its notices: no pooler in transaction mode between them")
		return nil
	})
	if err != nil {
		d.say("database", StateProblem, err.Error(), "mend this first, or name another database with --database-url (OBSCURA_DATABASE_URL). Then ask again: its other checks were not made")
	}
}

func (d *doctor) server(s db.InspectServerRow, took time.Duration) {
	d.say("database", StateOK, fmt.Sprintf("PostgreSQL %s answers in %.1f ms, %d MiB", s.Version,
		float64(took.Microseconds())/1000, s.Bytes/mib), "")
	if s.VersionNum < 150000 {
		d.say("version", StateProblem, "PostgreSQL "+s.Version+" is too old", "use version 15 or newer")
	}
	d.say("encoding", StateOK, s.Encoding, "") // others are refused at the connection
	if s.CollationChanged {
		d.say("collation", StateWarning, "the system's sorting of text has changed since the database was made, "+
			"so that indexes of names may miss rows", "stop the relay; REINDEX DATABASE; ALTER DATABASE … REFRESH COLLATION VERSION")
	} else {
		d.say("collation", StateOK, "it is the one that the indexes were made with", "")
	}
	if s.Standby {
		d.say("primary", StateProblem, "the server is a standby: requests that write answer 503",
			"let --database-url (OBSCURA_DATABASE_URL) lead to the primary")
	}
	const half, most = 1_000_000_000, 2_000_000_000
	d.say("transaction ids", level(most-s.Transactions, 500_000_000, half),
		fmt.Sprintf("%d of %d used since they were last frozen", s.Transactions, most),
		"vacuum does not keep up: end old transactions, and run VACUUM FREEZE")
	d.say("oldest transaction", level(-s.OldestTransactionSeconds, -3600, -300),
		fmt.Sprintf("%d s old", s.OldestTransactionSeconds),
		"end it (pg_terminate_backend): the tables of mailboxes cannot be vacuumed while it lasts")
}

// clock compares this machine's with the database's, which decides what has expired.
func (d *doctor) clock(ahead time.Duration) {
	d.say("clock", level(-ahead.Abs(), -30*time.Second, -2*time.Second),
		fmt.Sprintf("the database's differs by %.1f s", ahead.Seconds()),
		"set both by NTP (Debian: systemd-timesyncd): tokens, tickets and mail expire by them")
}

func (d *doctor) settings(ctx context.Context, on *storage.DB, connections int32) error {
	names := []string{"max_connections", "default_transaction_isolation", "statement_timeout"}
	for _, s := range serverSettings {
		names = append(names, s.name)
	}
	rows, err := storage.Ask(ctx, on, storage.Queries.ServerSettings, names)
	if err != nil {
		return err
	}
	values := map[string]string{}
	for _, row := range rows {
		values[row.Name] = row.Value
	}
	for _, s := range serverSettings {
		state := StateOK
		if !s.good(values[s.name]) {
			state = s.state
		}
		d.say(s.name, state, values[s.name], s.advice)
	}
	for _, own := range []string{"default_transaction_isolation", "statement_timeout"} {
		d.say(own, StateOK, values[own]+"; each session of the relay sets its own", "")
	}
	most, err := strconv.ParseInt(values["max_connections"], 10, 64)
	if err != nil {
		return errors.New("max_connections is no number")
	}
	need := int64(d.cfg.DatabaseConnections) + asyncConns + listenersOfANode
	d.say("max_connections", level(most-3, need, need+10), // three are PostgreSQL's own
		fmt.Sprintf("%d, of which %d are used; a node needs %d", most, connections, need),
		"raise it and restart PostgreSQL, or lower --database-connections (OBSCURA_DATABASE_CONNECTIONS)")
	return nil
}

func (d *doctor) schema(version int64, err error) {
	switch {
	case err != nil:
		d.say("schema", StateProblem, err.Error(), "check that this is a database of the relay, and that its user may read all of it")
	case version == 0:
		d.say("schema", StateOK, "there is none yet; the relay makes it at its start", "")
	case version < schema.Version:
		d.say("schema", StateWarning, fmt.Sprintf("it has version %d; this binary needs %d", version, schema.Version),
			"run `obscura migrate`, or start the relay, which does")
	case version > schema.Version:
		d.say("schema", StateWarning, fmt.Sprintf("it has version %d and this binary knows %d", version, schema.Version),
			"a newer relay has been here: install that version")
	default:
		d.say("schema", StateOK, fmt.Sprintf("version %d", version), "")
	}
}
