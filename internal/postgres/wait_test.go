package postgres

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A relay that was killed may have left a server, or initdb, that still works in the folder.
func TestAnEarlierServerIsWaitedForAloud(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	if err := os.Mkdir(filepath.Join(folder, "initdb"), 0o700); err != nil {
		t.Fatal(err)
	}
	left, err := os.Open(filepath.Join(folder, "initdb"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = left.Close() }()
	if err := unix.Flock(int(left.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		c := &Cluster{cfg: Config{DataDir: folder, Logger: slog.New(slog.NewTextHandler(w, nil))}}
		dir, err := c.lockDir(ctx, "initdb")
		if err == nil {
			_ = dir.Close()
		}
		_ = w.Close()
		ended <- err
	}()
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil || !strings.Contains(line, "level=WARN") ||
		!strings.Contains(line, "waiting for the PostgreSQL of an earlier relay to end") {
		t.Errorf("%q, %v", line, err)
	}
	cancel()
	if err := <-ended; err == nil {
		t.Error("it has the lock")
	}
}
