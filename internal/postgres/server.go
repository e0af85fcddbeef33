package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sys/unix"
)

// launch starts the server and the goroutine that owns it.
func (c *Cluster) launch(ctx context.Context) error {
	dir, err := c.lockDir(ctx, "cluster")
	if err != nil {
		return err
	}
	defer dir.Close() // the server has its own
	if st, err := dir.Stat(); err != nil {
		return fmt.Errorf("postgres: %w", err)
	} else if !c.account.owns(st) { // made by an earlier version, or put back from a backup by root
		if err := c.account.give(dir.Name()); err != nil {
			return fmt.Errorf("postgres: %w", err)
		}
	}
	args := []string{"-D", "/proc/self/fd/3"}
	settings := c.settings()
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		args = append(args, "-c", name+"="+settings[name])
	}
	// Not ctx: the server outlives the start.
	c.cmd = c.programs.command(context.WithoutCancel(ctx), c.account, syscall.SIGINT, []*os.File{dir, c.run},
		"postgres", args...)
	// A backend that survives the server by a moment keeps the pipe of the log open.
	c.cmd.WaitDelay = time.Second
	started := make(chan error, 1)
	go c.own(started)
	return <-started
}

// own starts the server, reaps it, and tells why it ended. The kernel's death signal follows the
// thread that started the server, so the thread stays here until the server has ended.
func (c *Cluster) own(started chan<- error) {
	defer close(c.done)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	log := &logWriter{log: c.cfg.Logger}
	c.cmd.Stderr = log
	if err := c.cmd.Start(); err != nil {
		c.err = fmt.Errorf("postgres: %w", err)
		started <- c.err
		return
	}
	started <- nil
	_ = c.cmd.Wait() // ProcessState tells the same
	if !c.stopping.Load() {
		c.err = fmt.Errorf("postgres: the server ended by itself: %s: %s", c.cmd.ProcessState, log.last)
	}
}

// prepare waits until the server accepts connections, after a crash until it has recovered, and
// creates the database.
func (c *Cluster) prepare(ctx context.Context) error {
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	warned := time.Now()
	for {
		conn, err := pgx.Connect(ctx, c.url("postgres"))
		if err == nil {
			return errors.Join(createDatabase(ctx, conn), conn.Close(ctx))
		}
		var refusal *pgconn.PgError
		if errors.As(err, &refusal) && refusal.Code != "57P03" && refusal.Code != "53300" { // neither starting nor full
			return fmt.Errorf("postgres: the server refuses the relay: %s (SQLSTATE %s)", refusal.Message, refusal.Code)
		}
		if due(&warned) {
			c.cfg.Logger.Warn("waiting for the private PostgreSQL, which recovers from a crash or is slow to start",
				"component", "postgres", "error", err)
		}
		select {
		case <-poll.C:
		case <-c.done:
			return c.err
		case <-ctx.Done():
			return fmt.Errorf("postgres: the server did not get ready in time: %w: %w", ctx.Err(), err)
		}
	}
}

func createDatabase(ctx context.Context, conn *pgx.Conn) error {
	var exists bool
	err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", relayDatabase).Scan(&exists)
	if err == nil && !exists {
		_, err = conn.Exec(ctx, "CREATE DATABASE "+pgx.Identifier{relayDatabase}.Sanitize())
	}
	if err != nil {
		return fmt.Errorf("postgres: create the database: %w", err)
	}
	return nil
}

// settings are ours, which keep what was committed (fsync, synchronous_commit and full_page_writes
// are on by default), and then the caller's.
func (c *Cluster) settings() map[string]string {
	s := map[string]string{
		"listen_addresses":        "",
		"port":                    strconv.Itoa(port),
		"unix_socket_directories": "/proc/self/fd/4",
		"unix_socket_permissions": "0700",
		"max_connections":         strconv.Itoa(c.cfg.MaxConnections),
		"shared_buffers":          sharedBuffers(),
		// Nothing copies the log, so it needs no more than recovery does.
		"wal_level":          "minimal",
		"max_wal_senders":    "0",
		"max_wal_size":       "4GB",
		"checkpoint_timeout": "5min",
		// What the log held leaves the folder: a segment that was kept for later would keep its
		// bytes.
		"min_wal_size":                 "32MB",
		"wal_recycle":                  "off",
		"wal_compression":              "on",
		"checkpoint_completion_target": "0.9",
		// Mailboxes fill and empty all day.
		"autovacuum_naptime": "1s",
		// Our statements are short, and a hardened service may not write code into memory.
		"jit": "off",
		// For logWriter; and nothing of a statement or a row may get there.
		"log_destination":         "stderr",
		"logging_collector":       "off",
		"log_line_prefix":         "%b|",
		"log_error_verbosity":     "terse",
		"log_min_error_statement": "panic",
	}
	maps.Copy(s, c.cfg.Settings)
	return s
}

// sharedBuffers is 256 MB, or an eighth of a small memory.
func sharedBuffers() string {
	mb := uint64(256)
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err == nil {
		mb = min(mb, max(16, info.Totalram*uint64(info.Unit)>>23))
	}
	return strconv.FormatUint(mb, 10) + "MB"
}
