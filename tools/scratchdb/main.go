// Command scratchdb runs a command with DATABASE_URL naming an empty database, on a PostgreSQL of
// its own that lives in a temporary folder for as long as the command does.
//
//	go run ./tools/scratchdb go tool goose -dir schema status
//
// It exits with the command's status. Nothing is left behind unless it is killed outright, and then
// only the folder.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"github.com/obscura-relay/obscura/internal/postgres"
)

// How long the command gets to end after an interrupt, and the server to stop.
const (
	commandGrace = 10 * time.Second
	serverGrace  = 10 * time.Second
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: scratchdb COMMAND [ARGUMENT...]")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	var exit *exec.ExitError
	switch {
	case err == nil:
	case errors.As(err, &exit) && exit.ExitCode() > 0:
		os.Exit(exit.ExitCode())
	default:
		fmt.Fprintln(os.Stderr, "scratchdb:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, command []string) (err error) {
	dir, err := os.MkdirTemp("", "obscura-scratch-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	cluster, err := postgres.Start(ctx, postgres.Config{DataDir: dir, Settings: map[string]string{"fsync": "off"}})
	if err != nil {
		return err
	}
	defer func() {
		stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), serverGrace)
		defer cancel()
		err = errors.Join(err, cluster.Stop(stopCtx))
	}()

	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Env = append(os.Environ(), "DATABASE_URL="+cluster.URL())
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = commandGrace
	return cmd.Run()
}
