package faults_test

import (
	"context"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

var (
	soakFor  = flag.Duration("soak", 0, "how long TestRandomFaults goes on; 0: one round")
	soakSeed = flag.Uint64("seed", 0, "repeats the choices of an earlier TestRandomFaults")
	raced    = flag.Bool("race-relay", false, "build the relay with the race detector")
)

// patience bounds every wait on a busy machine.
const patience = 45 * time.Second

func TestMain(m *testing.M) {
	code := m.Run()
	if binaryFolder != "" {
		if err := os.RemoveAll(binaryFolder); err != nil {
			fmt.Fprintln(os.Stderr, "faults:", err)
			code = 1
		}
	}
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, "faults:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// binaryFolder is written by binaries, which every test has called before TestMain reads it.
var binaryFolder string

// binaries builds the relay and the attacker once and returns their folder.
var binaries = sync.OnceValues(func() (string, error) {
	root, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(root, "go.mod")); err == nil {
			break
		}
		if root == filepath.Dir(root) {
			return "", os.ErrNotExist
		}
		root = filepath.Dir(root)
	}
	// What the relay is built from is not part of this test's binary. Looking at it tells `go test`
	// that a result is out of date when the relay has changed.
	err = filepath.WalkDir(root, func(_ string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() && (entry.Name() == ".git" || entry.Name() == "node_modules" ||
			entry.Name() == ".tools") {
			return fs.SkipDir
		}
		return err
	})
	if err != nil {
		return "", err
	}
	if binaryFolder, err = os.MkdirTemp("", "obscura-faults-"); err != nil {
		return "", err
	}
	// as `make build` does: its cache serves both
	args, cgo := []string{"build", "-trimpath", "-o", binaryFolder}, "CGO_ENABLED=0"
	if *raced {
		args, cgo = append(args, "-race"), "CGO_ENABLED=1"
	}
	cmd := exec.CommandContext(context.Background(), "go",
		append(args, "./cmd/obscura", "./internal/kit/faults/announcer")...)
	cmd.Dir, cmd.Env = root, append(os.Environ(), cgo)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the relay and the attacker: %w\n%s", err, out)
	}
	return binaryFolder, nil
})

// pause lets a moment pass between two tries, as clients do. It returns false when ctx has ended.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
