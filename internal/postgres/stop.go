package postgres

import (
	"context"
	"errors"
	"os"
	"syscall"
	"time"
)

// killAfter is how long the server has for an immediate shutdown. It gives its own children five
// seconds.
const killAfter = 7 * time.Second

// Stop ends the connections, writes a checkpoint and stops the server. When ctx ends first the
// server is made to stop at once, which costs the next start a recovery and loses nothing; Stop
// then takes up to seven seconds more and tells so in its error. It always returns with the server
// reaped, and may be called again.
func (c *Cluster) Stop(ctx context.Context) error {
	if !c.stopping.Swap(true) {
		c.endSegment(ctx)
	}
	defer c.release()
	c.signal(syscall.SIGINT)
	select {
	case <-c.done:
		return nil
	case <-ctx.Done():
		c.kill()
		return errors.New("postgres: the server did not stop in time and was made to; its next start recovers")
	}
}

// kill stops the server at once. There is nothing to do if it never started.
func (c *Cluster) kill() {
	if c.cmd == nil {
		return
	}
	c.stopping.Store(true)
	c.signal(syscall.SIGQUIT)
	hurry := time.NewTimer(killAfter)
	defer hurry.Stop()
	select {
	case <-c.done:
	case <-hurry.C:
		c.signal(syscall.SIGKILL)
		<-c.done
	}
}

func (c *Cluster) signal(sig syscall.Signal) {
	if c.cmd.Process == nil {
		return // it could not be started
	}
	if err := c.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		c.cfg.Logger.Warn("could not signal the private PostgreSQL; its end is waited for", "component", "postgres",
			"signal", sig.String(), "error", err)
	}
}
