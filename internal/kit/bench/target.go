package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	obscura "github.com/obscura-relay/obscura/clients/go"
	"github.com/obscura-relay/obscura/internal/postgres"
	"github.com/obscura-relay/obscura/internal/storage"
)

// Common is what every scenario is told: which relay, and where the results go.
type Common struct {
	URL         string `name:"url" env:"-" placeholder:"URL" help:"Relay to load. Without it the benchmark starts one of its own, with a private PostgreSQL, in a temporary folder."`
	PID         int    `name:"pid" env:"-" placeholder:"N" help:"Process of the relay at --url, on this machine: for its CPU time and memory, as they are measured of a relay of its own."`
	Management  string `env:"-" placeholder:"URL" help:"Management port of the relay at --url: for what its metrics tell."`
	DatabaseURL string `name:"database-url" env:"-" placeholder:"URL" help:"Database of the relay: for the CPU time of a server on this machine, WAL per message and --floor. With a relay of its own: a database to use instead of a private one."`
	PostgresBin string `env:"OBSCURA_POSTGRES_BIN" placeholder:"FOLDER" help:"Folder of the PostgreSQL programs, when they are not found by themselves."`
	Peer        string `env:"-" placeholder:"URL" help:"Another relay: the two are measured in turns, and the table says how many times better the first one is."`
	PeerPID     int    `name:"peer-pid" env:"-" placeholder:"N" help:"Process of the peer, on this machine. Its database is taken to be on the server of --database-url."`
	Rounds      int    `env:"-" default:"3" placeholder:"N" help:"How many pairs --peer and --sealed measure."`
	JSON        string `name:"json" env:"-" type:"path" placeholder:"FILE" help:"Write the figures there as well."`

	// Out gets the table; Progress the line that changes, on a terminal.
	Out, Progress io.Writer `kong:"-"`
	// Program is the obscura binary that a relay of its own runs. Default: this one.
	Program string `kong:"-"`
}

// startTimeout bounds the start and the stop of PostgreSQL and of the relay.
const startTimeout = time.Minute

// target is the relay under load and what can be seen of it.
type target struct {
	cfg Common
	// api carries the load; through entrance people register.
	api       *api
	entrance  *obscura.Relay
	transport *http.Transport // of entrance
	metrics   string          // URL of /metrics, "" when it cannot be seen

	// of a relay of our own
	dir     string
	cluster *postgres.Cluster
	relay   *child

	db    *storage.DB // nil when the database cannot be seen
	dbPID int         // the database server, 0 when it cannot be seen
}

// open makes the relay ready: ours is started, another's is taken as it is.
func open(ctx context.Context, cfg Common, conns int) (_ *target, err error) {
	allowFiles(1 << 16)
	t := &target{cfg: cfg, transport: &http.Transport{MaxIdleConnsPerHost: registrars}}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.close())
		}
	}()
	if cfg.URL == "" {
		if err := t.startOwn(ctx); err != nil {
			return nil, err
		}
	} else {
		if _, _, _, _, there := stat(cfg.PID); cfg.PID != 0 && !there {
			return nil, fmt.Errorf("--pid: there is no process %d on this machine", cfg.PID)
		}
		if cfg.Management != "" {
			t.metrics = cfg.Management + "/metrics"
		}
	}
	if t.cfg.DatabaseURL != "" {
		// Two connections look on; the floor has a pool of its own.
		t.db, err = storage.Open(context.WithoutCancel(ctx), t.cfg.DatabaseURL, storage.Options{MaxConns: 2})
		if err != nil {
			return nil, err
		}
		t.dbPID = t.postmaster(ctx)
	}
	url := cfg.URL
	if t.own() {
		url = t.relay.url
	}
	return t, t.enter(url, conns)
}

// enter makes the clients of the relay at a URL.
func (t *target) enter(url string, conns int) (err error) {
	if t.api, err = newAPI(url, conns); err != nil {
		return err
	}
	t.entrance, err = obscura.New(url,
		obscura.Options{HTTPClient: &http.Client{Transport: t.transport, Timeout: httpTimeout}})
	return err
}

// pid is the process of the relay, 0 when it cannot be seen.
func (t *target) pid() int {
	if t.own() {
		return t.relay.pid()
	}
	return t.cfg.PID
}

// own reports whether the relay is ours: it may be restarted, and it goes away afterwards.
func (t *target) own() bool { return t.relay != nil }

func (t *target) startOwn(ctx context.Context) (err error) {
	if t.dir, err = os.MkdirTemp("", "obscura-bench-"); err != nil {
		return err
	}
	if t.cfg.DatabaseURL == "" {
		start, cancel := context.WithTimeout(ctx, startTimeout)
		defer cancel()
		t.cluster, err = postgres.Start(start,
			postgres.Config{DataDir: filepath.Join(t.dir, "postgres"), BinDir: t.cfg.PostgresBin})
		if err != nil {
			return err
		}
		t.cfg.DatabaseURL = t.cluster.URL()
	}
	return t.startRelay(ctx)
}

func (t *target) startRelay(ctx context.Context) (err error) {
	program := t.cfg.Program
	if program == "" {
		if program, err = os.Executable(); err != nil {
			return err
		}
	}
	if t.relay, err = startChild(ctx, program, t.cfg.DatabaseURL, t.dir); err != nil {
		return err
	}
	t.metrics = t.relay.management + "/metrics"
	return nil
}

// renew replaces a relay of our own by a fresh process: registration, with its password hashing,
// leaves memory behind that would be taken for the scenario's. Devices and tokens stay good.
func (t *target) renew(ctx context.Context) error {
	if !t.own() {
		return nil
	}
	conns := t.api.client.MaxConns
	t.api.close()
	t.transport.CloseIdleConnections()
	if err := t.relay.stop(); err != nil {
		return err
	}
	if err := t.startRelay(ctx); err != nil {
		return err
	}
	return t.enter(t.relay.url, conns)
}

// stopRelay ends a relay of our own and leaves its database.
func (t *target) stopRelay() error {
	if t.relay == nil {
		return nil
	}
	return t.relay.stop()
}

func (t *target) close() error {
	var errs []error
	if t.api != nil {
		t.api.close()
	}
	t.transport.CloseIdleConnections()
	if t.db != nil {
		t.db.Close()
	}
	errs = append(errs, t.stopRelay())
	if t.cluster != nil {
		ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
		defer cancel()
		errs = append(errs, t.cluster.Stop(ctx))
	}
	if t.dir != "" {
		errs = append(errs, os.RemoveAll(t.dir))
	}
	return errors.Join(errs...)
}

// postmaster is the process of the database server, 0 when it does not run on this machine.
func (t *target) postmaster(ctx context.Context) int {
	var backend int
	// Not in queries/: it asks the server, not the relay's data.
	if err := t.db.Pool().QueryRow(ctx,
		"SELECT pg_backend_pid() WHERE coalesce(host(inet_server_addr()), '127.0.0.1') IN ('127.0.0.1', '::1')").Scan(&backend); err != nil {
		return 0
	}
	parent, name, _, _, _ := stat(backend)
	if name != "postgres" {
		return 0
	}
	return parent
}

// wal is how many bytes the database has ever written to its log; ok is false when it cannot be
// seen.
func (t *target) wal(ctx context.Context) (bytes float64, ok bool) {
	if t.db == nil {
		return 0, false
	}
	// Not in queries/: it asks the server, not the relay's data.
	err := t.db.Pool().QueryRow(ctx, "SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::float8").Scan(&bytes)
	return bytes, err == nil
}

// describe says what is loaded.
func (t *target) describe() string {
	if t.own() {
		return "a relay of its own (rate limits off), " + t.api.base.Host
	}
	return fmt.Sprintf("the relay at %s", t.api.base)
}
