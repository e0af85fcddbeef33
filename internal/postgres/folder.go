package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	port = 5432
	// maxSocket bounds the path of a unix socket, without the zero at its end.
	maxSocket = 107
)

func (c *Cluster) path(name string) string { return filepath.Join(c.cfg.DataDir, name) }

// openFolder takes the folder for this relay and opens the place of the socket.
func (c *Cluster) openFolder() error {
	if err := os.MkdirAll(c.cfg.DataDir, 0o700); err != nil {
		return c.errFolder(err)
	}
	var err error
	if c.lock, err = os.OpenFile(c.path("lock"), os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return c.errFolder(err)
	}
	switch err := unix.Flock(int(c.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); {
	case errors.Is(err, unix.EWOULDBLOCK):
		return fmt.Errorf("postgres: another relay uses the data folder %s: give every relay a folder of its own",
			c.cfg.DataDir)
	case err != nil:
		return fmt.Errorf("postgres: lock %s: %w", c.lock.Name(), err)
	}
	if c.account, err = ownAccount(c.cfg.DataDir); err != nil {
		return err
	}
	if c.run, err = c.makeDir("run", c.account); err != nil {
		return err
	}
	c.host = c.run.Name()
	if len(c.host)+len("/.s.PGSQL.5432") > maxSocket || strings.Contains(c.host, ",") {
		// The same folder by a shorter name, which other processes of this user can use as well.
		// A comma separates hosts in a connection string.
		c.host = fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), c.run.Fd())
	}
	return nil
}

// errFolder says what to change when the folder cannot be made or used.
func (c *Cluster) errFolder(err error) error {
	return fmt.Errorf("postgres: the data folder %s cannot be made or written to: %w: "+
		"start the relay as the user whose folder it is, give it to this one, or name another", c.cfg.DataDir, err)
}

// release gives the folder to the next relay, once. The server has ended.
func (c *Cluster) release() {
	c.released.Do(func() {
		c.programs.remove(c.path("programs"))
		for _, f := range []*os.File{c.run, c.lock} {
			if f != nil {
				_ = f.Close() // nothing was written
			}
		}
	})
}

// initialize finds the programs and makes the cluster unless there is one.
func (c *Cluster) initialize(ctx context.Context) error {
	version, err := os.ReadFile(c.path("cluster/PG_VERSION"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("postgres: %w", err)
	}
	exists := err == nil
	if c.programs, err = findPrograms(ctx, c.cfg.BinDir, c.account, number(string(version)),
		c.path("programs")); err != nil {
		return err
	}
	if !exists {
		return c.initdb(ctx)
	}
	return nil
}

// initdb makes the cluster beside its place and then moves it there, so that a crash leaves a whole
// cluster or none.
func (c *Cluster) initdb(ctx context.Context) error {
	if left, err := c.lockDir(ctx, "initdb"); err == nil {
		_ = left.Close() // of a relay that was killed; nothing writes there any more
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.RemoveAll(c.path("initdb")); err != nil {
		return fmt.Errorf("postgres: %w", err)
	}
	maker, err := c.account.maker()
	if err != nil {
		return err
	}
	dir, err := c.makeDir("initdb", maker)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("postgres: lock %s: %w", dir.Name(), err)
	}
	args := []string{"-D", "/proc/self/fd/3", "--username=" + relayDatabase, "--auth=trust", "--encoding=UTF8", "--locale=C",
		"--no-instructions"}
	if c.cfg.Settings["fsync"] == "off" {
		args = append(args, "--no-sync")
	}
	runtime.LockOSThread() // the death signal comes when the thread ends
	defer runtime.UnlockOSThread()
	cmd := c.programs.command(ctx, maker, syscall.SIGKILL, []*os.File{dir}, "initdb", args...)
	var stderr bytes.Buffer
	cmd.Stderr, cmd.WaitDelay = &stderr, time.Second
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("postgres: the data folder %s cannot be filled, initdb failed: %w", c.cfg.DataDir,
			reason(stderr.String(), err))
	}
	if err := c.account.give(c.path("initdb")); err != nil {
		return fmt.Errorf("postgres: %w", err)
	}
	if err := os.Rename(c.path("initdb"), c.path("cluster")); err != nil {
		return fmt.Errorf("postgres: %w", err)
	}
	return syncDir(c.cfg.DataDir)
}

// reason is the first thing that a program of PostgreSQL said had failed, on one line; what it says
// after that follows from it. Without any, all that it said.
func reason(output string, err error) error {
	for line := range strings.Lines(output) {
		for _, severity := range []string{"FATAL:", "PANIC:", "ERROR:", "error:"} {
			if _, text, found := strings.Cut(line, severity); found {
				return fmt.Errorf("%s (%w)", strings.TrimSpace(text), err)
			}
		}
	}
	return fmt.Errorf("%w: %s", err, strings.Join(strings.Fields(output), " "))
}

// makeDir opens a folder of an account, made if need be.
func (c *Cluster) makeDir(name string, owner account) (*os.File, error) {
	path := c.path(name)
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	if err := owner.give(path); err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	dir, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	return dir, nil
}

// lockDir opens a folder and locks it. Children that inherit the descriptor share the lock, and it
// is free again when the last of them has ended; it waits for those of an earlier relay.
func (c *Cluster) lockDir(ctx context.Context, name string) (*os.File, error) {
	path := c.path(name)
	dir, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	warned := time.Now()
	for {
		err := unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return dir, nil
		}
		if due(&warned) {
			c.cfg.Logger.Warn("waiting for the PostgreSQL of an earlier relay to end", "component", "postgres",
				"folder", path)
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("postgres: lock %s: %w", path, err), dir.Close())
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("postgres: the server of an earlier relay still runs in %s: %w", path,
				ctx.Err()), dir.Close())
		}
	}
}

// warnEvery is how often the log is told what is waited for.
const warnEvery = 3 * time.Second

// due reports, every few seconds, that it is time to warn again.
func due(warned *time.Time) bool {
	if time.Since(*warned) < warnEvery {
		return false
	}
	*warned = time.Now()
	return true
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("postgres: %w", err)
	}
	return errors.Join(dir.Sync(), dir.Close())
}
