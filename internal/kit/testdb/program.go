package testdb

import (
	"bytes"
	"net"
	"os/exec"
	"testing"

	"github.com/obscura-relay/obscura/internal/kit/wait"
)

// StartProgram starts a program and waits until it listens at an address. The end of the test kills
// it, and shows what it has said if the test has failed.
func StartProgram(t testing.TB, name string, cmd *exec.Cmd, address string) {
	t.Helper()
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s: %s", name, &log)
		}
	})
	wait.Eventually(t, name+" listens", func() bool {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
}

// FreeAddress is one at which a program may listen.
func FreeAddress(t testing.TB) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	return listener.Addr().String()
}
