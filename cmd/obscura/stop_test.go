package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"syscall"
	"testing"
	"time"

	"github.com/obscura-relay/obscura/internal/kit/testdb"
)

// TestAHangUpIsAnOrderlyStopUnlessItIsIgnored closes the terminal of a relay that runs in it, and
// of one under nohup.
func TestAHangUpIsAnOrderlyStopUnlessItIsIgnored(t *testing.T) {
	t.Parallel()
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP) // what is ignored here would be in the command
	environ := []string{"OBSCURA_DATABASE_URL=" + testdb.NewURL(t)}
	cmd, _, _ := serving(t, environ)
	if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("SIGHUP: %v", err)
	}
	cmd = command(t, environ, "serve", "--listen=127.0.0.1:0", "--management-listen=127.0.0.1:0")
	cmd.Args = append([]string{"sh", "-c", `trap "" HUP; exec "$@"`, "sh"}, cmd.Args...)
	cmd.Path = "/bin/sh"
	api, _ := listens(t, cmd)
	if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	about, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	if ignored := regexp.MustCompile(`(?m)^SigIgn:\s*[0-9a-f]*[13579bdf]$`); !ignored.Match(about) {
		t.Errorf("it does not ignore it any more: %s", about)
	}
	if got := post(t, api, nil).status; got != 400 {
		t.Errorf("afterwards %d", got)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("SIGTERM: %v", err)
	}
}

// withoutReader starts the relay, and leaves its log when it listens.
func withoutReader(t *testing.T) (cmd *exec.Cmd, api string, log *os.File) {
	t.Helper()
	log, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	cmd = command(t, []string{"DATABASE_URL=" + testdb.NewURL(t)}, "serve", "--listen=127.0.0.1:0",
		"--management-listen=127.0.0.1:0", "--rate-limits=off")
	cmd.Stderr = writer
	if err := errors.Join(cmd.Start(), writer.Close()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	for lines := bufio.NewScanner(log); lines.Scan(); {
		var line struct{ Msg, API string }
		if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "listening" {
			return cmd, line.API, log
		}
	}
	t.Fatal("it does not listen")
	return nil, "", nil
}

func TestTheRelayStopsWhenNobodyReadsItsLog(t *testing.T) {
	t.Parallel()
	cmd, api, _ := withoutReader(t)
	for range 1000 { // more lines than a pipe takes
		post(t, api, nil)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("an orderly stop ends with %v", err)
		}
	case <-time.After(20 * time.Second):
		_ = cmd.Process.Kill()
		t.Errorf("it does not stop, and is killed: %v", <-ended)
	}
}

func TestTheRelayOutlivesTheReaderOfItsLog(t *testing.T) {
	t.Parallel()
	cmd, api, log := withoutReader(t)
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		post(t, api, nil)
		<-time.After(200 * time.Millisecond) // what is logged is written meanwhile
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("SIGTERM: %v", err)
	}
}
