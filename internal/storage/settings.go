package storage

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// settings are those of a session that the relay relies on. Each can come from the server, the
// role, the database or the environment, so each session sets them itself. It does so after it has
// connected: a pooler refuses them as parameters of the connection.
//
// Whether transactions may write is not among them: an operator stops writes by that.
var settings = map[string]string{
	"client_encoding":                "UTF8",
	"default_transaction_isolation":  "read committed",
	"default_transaction_deferrable": "off",
	"search_path":                    defaultPath,
	"synchronous_commit":             "on",
	// The forms of values, where the driver or a query reads or writes them as text.
	"bytea_output":                "hex",
	"DateStyle":                   "ISO, MDY",
	"IntervalStyle":               "postgres",
	"TimeZone":                    "UTC",
	"standard_conforming_strings": "on",
	"array_nulls":                 "on",
	"transform_null_equals":       "off",
	// How long what may take.
	"statement_timeout":                   "10s",
	"lock_timeout":                        "5s",
	"idle_in_transaction_session_timeout": "15s",
	"idle_session_timeout":                "0",
	"transaction_timeout":                 "0",
}

// defaultPath is where the tables are, unless the URL says search_path=….
const defaultPath = `"$user", public`

// planning is for the pools. Every statement of ours walks along keys. A plan that reads a table,
// or joins by hashing it, was made on the statistics of a queue that has filled since. And one plan
// serves every execution: planning each anew took twice as long as executing it.
var planning = map[string]string{
	"enable_seqscan":   "off",
	"enable_hashjoin":  "off",
	"enable_mergejoin": "off",
	"plan_cache_mode":  "force_generic_plan",
	// The planner believes that a bucket holds a two-hundredth of a table that was never analysed.
	// It would collect and sort the few rows that it expects, to find the first of them, and not
	// walk along the key that has them in order.
	"enable_bitmapscan": "off",
	// The keys that a statement gets differ: nothing is looked up twice.
	"enable_memoize": "off",
	// A plan that has to read a table counts as very dear then, and what is dear is compiled, for
	// seconds, and given to several processes. Nothing of ours takes long enough for that.
	"jit":                             "off",
	"max_parallel_workers_per_gather": "0",
}

// ListenConfig is for a connection that listens: of its own, not of a pool.
func ListenConfig(url, application string) (*pgx.ConnConfig, error) {
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("the database URL is not valid: %w", explainURL(err))
	}
	pin(cfg, application, nil)
	cfg.DefaultQueryExecMode = pgx.QueryExecModeExec // a pooler may have lent the session before
	return cfg, nil
}

// pin makes sessions of a configuration set what we rely on, and more or something else in place of
// it. It returns where they look for tables.
func pin(cfg *pgx.ConnConfig, application string, more map[string]string) (path string) {
	all := maps.Clone(settings)
	if path := cfg.RuntimeParams["search_path"]; path != "" {
		all["search_path"] = path
		delete(cfg.RuntimeParams, "search_path")
	}
	maps.Copy(all, more)
	cfg.RuntimeParams["application_name"] = application
	cfg.RuntimeParams["client_encoding"] = all["client_encoding"]
	cfg.AfterConnect = func(ctx context.Context, conn *pgconn.PgConn) error { return set(ctx, conn, all) }
	return all["search_path"]
}

// set takes one round trip. Settings that this version of PostgreSQL does not have are left out,
// and commits that wait for more than the disk here, for a standby perhaps, go on doing so.
func set(ctx context.Context, conn *pgconn.PgConn, all map[string]string) error {
	var rows []string
	var values [][]byte
	for _, name := range slices.Sorted(maps.Keys(all)) {
		values = append(values, []byte(name), []byte(all[name]))
		rows = append(rows, "($"+strconv.Itoa(len(values)-1)+"::text, $"+strconv.Itoa(len(values))+"::text)")
	}
	sql := "SELECT set_config(name, value, false) FROM (VALUES " + strings.Join(rows,
		", ") + ") AS ours (name, value)" +
		" WHERE current_setting(name, true) IS NOT NULL" +
		" AND (name <> 'synchronous_commit' OR value = 'off' OR current_setting(name) = 'off')"
	return conn.ExecParams(ctx, sql, values, nil, nil, nil).Read().Err
}

// checkEncoding refuses databases that cannot keep every text, or would keep another than was sent.
func (d *DB) checkEncoding(ctx context.Context) error {
	conn, err := d.pool.Acquire(ctx)
	if err != nil {
		return classify(ctx, err)
	}
	defer conn.Release()
	encoding := conn.Conn().PgConn().ParameterStatus("server_encoding")
	if encoding == "UTF8" || encoding == "SQL_ASCII" {
		return nil
	}
	return fmt.Errorf("the database has the encoding %s, which cannot keep every text: make one with CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0, and name that in the database URL", encoding)
}

// refresh is the least time between two renewals of a pool.
const refresh = time.Second

// renew ends the sessions of the pool as they become idle, since a session keeps what it was told
// when it began: that it may not write, or that it speaks to a standby. So writes go on as soon as
// they may.
func (d *DB) renew() {
	last, now := d.renewed.Load(), time.Now().UnixNano()
	if now-last > int64(refresh) && d.renewed.CompareAndSwap(last, now) {
		d.pool.Reset()
	}
}
