package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// child is a relay that this process has started.
type child struct {
	url, management string
	cmd             *exec.Cmd
	done            chan struct{} // closed when the process is reaped
	log             string
}

// overrides are what a relay of our own is told; anything else that the environment says holds.
func overrides(databaseURL, dir string) map[string]string {
	return map[string]string{
		"OBSCURA_LISTEN": "127.0.0.1:0", "OBSCURA_MANAGEMENT_LISTEN": "127.0.0.1:0",
		"OBSCURA_DATABASE_URL": databaseURL, "DATABASE_URL": "", "OBSCURA_RATE_LIMITS": "off",
		"OBSCURA_DATA_DIR": dir, "OBSCURA_BLOB_URL": "",
		// The line that tells the addresses is read from the log.
		"OBSCURA_LOG_FORMAT": "json", "OBSCURA_LOG_LEVEL": "info",
	}
}

func environment(databaseURL, dir string) []string {
	ours := overrides(databaseURL, dir)
	var env []string
	for _, entry := range os.Environ() {
		name, _, _ := strings.Cut(entry, "=")
		if _, replaced := ours[name]; !replaced {
			env = append(env, entry)
		}
	}
	for name, value := range ours {
		if value != "" {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// startChild starts `obscura serve` with a folder and waits until it listens. Its log goes to a
// file there, as it would in earnest, so that its cost is in the figures and reading it is not.
func startChild(ctx context.Context, program, databaseURL, dir string) (*child, error) {
	log := filepath.Join(dir, "relay.log")
	out, err := os.OpenFile(log, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close() // the child has its own
	c := &child{done: make(chan struct{}), log: log,
		cmd: exec.CommandContext(context.WithoutCancel(ctx), program, "serve")}
	c.cmd.Env, c.cmd.Stderr = environment(databaseURL, dir), out
	// In a group of its own, so that a terminal's Ctrl-C reaches this process alone, which then
	// stops the relay; and it ends with this process, however that ends.
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	started := make(chan error, 1)
	go c.own(started)
	if err := <-started; err != nil {
		return nil, err
	}
	if err := c.await(ctx); err != nil {
		return nil, errors.Join(err, c.stop())
	}
	return c, nil
}

// own starts the process and reaps it. The kernel's death signal follows the thread that started
// it, so the thread stays here.
func (c *child) own(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(c.done)
	err := c.cmd.Start()
	started <- err
	if err == nil {
		_ = c.cmd.Wait() // ProcessState tells the same
	}
}

func (c *child) pid() int { return c.cmd.Process.Pid }

// await reads the addresses out of the log.
func (c *child) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		if c.listening() {
			return nil
		}
		select {
		case <-c.done:
			return fmt.Errorf("the relay did not start: %s", c.lastLine())
		default:
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return fmt.Errorf("the relay did not get ready: %w", err)
		}
	}
}

func (c *child) listening() bool {
	file, err := os.Open(c.log)
	if err != nil {
		return false
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		var line struct{ Msg, API, Management string }
		if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "listening" {
			c.url, c.management = line.API, line.Management
			return true
		}
	}
	return false
}

func (c *child) lastLine() string {
	text, _ := os.ReadFile(c.log)
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return lines[len(lines)-1]
}

// stop ends the relay as SIGTERM does, and by force when it does not heed it. It may be called
// again.
func (c *child) stop() error {
	select {
	case <-c.done:
		return nil
	default:
	}
	_ = c.cmd.Process.Signal(syscall.SIGTERM) // it may just have ended
	timer := time.NewTimer(startTimeout)
	defer timer.Stop()
	select {
	case <-c.done:
		return nil
	case <-timer.C:
		_ = c.cmd.Process.Kill()
		<-c.done
		return errors.New("the relay did not stop and was killed")
	}
}
