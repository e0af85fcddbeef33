package postgres_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	osexec "os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/obscura-relay/obscura/internal/kit/testdb"
	"github.com/obscura-relay/obscura/internal/kit/wait"
	"github.com/obscura-relay/obscura/internal/postgres"
)

// helper is the relay that gets killed. It writes the URL of its cluster and reads until the end.
func helper(dir string) {
	cfg := config(dir)
	if bin := os.Getenv(helperDir + "_BIN"); bin != "" {
		cfg.BinDir = bin
	}
	c, err := postgres.Start(context.Background(), cfg)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(c.URL())
	_, _ = bufio.NewReader(os.Stdin).ReadByte()
	os.Exit(2)
}

// killRelay starts a relay, writes the note through it and kills it. It returns the processes that
// its server had.
func killRelay(t *testing.T, cfg postgres.Config) (pids []int) {
	t.Helper()
	relay := osexec.Command(os.Args[0])
	relay.Env = append(os.Environ(), helperDir+"="+cfg.DataDir, helperDir+"_BIN="+cfg.BinDir)
	relay.Stderr = os.Stderr
	in, err := relay.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := relay.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := relay.Start(); err != nil {
		t.Fatal(err)
	}
	url, _ := bufio.NewReader(out).ReadString('\n')
	url = strings.TrimSpace(url)
	if !strings.HasPrefix(url, "postgres://") {
		_ = relay.Wait()
		t.Fatal("the relay did not start: ", url)
	}
	mustExec(t, url, writeNote)
	pids = query[[]int](t, url, "SELECT array_agg(pid) FROM pg_stat_activity WHERE backend_type <> 'client backend'")
	pids = append(pids, postmaster(t, cfg.DataDir))
	if err := relay.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = relay.Wait() // it was killed
	return pids
}

// gone waits until none of the processes is there.
func gone(t *testing.T, pids []int) {
	t.Helper()
	wait.Eventually(t, "no server is left", func() bool {
		return !slices.ContainsFunc(pids, func(pid int) bool { return syscall.Kill(pid, 0) == nil })
	})
}

// postmaster is the process that Start started, by the file that PostgreSQL keeps.
func postmaster(t *testing.T, dir string) (pid int) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "cluster", "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscan(string(data), &pid); err != nil {
		t.Fatal(err)
	}
	return pid
}

func TestKilledRelayLeavesNoServer(t *testing.T) {
	cfg := config(t.TempDir())
	gone(t, killRelay(t, cfg))
	c := start(t, cfg)
	if got := query[string](t, c.URL(), readNote); got != "kept" {
		t.Errorf("note is %q", got)
	}
}

// The server of the killed relay may still be stopping.
func TestStartRightAfterAKill(t *testing.T) {
	cfg := config(t.TempDir())
	killRelay(t, cfg)
	c := start(t, cfg)
	if got := query[string](t, c.URL(), readNote); got != "kept" {
		t.Errorf("note is %q", got)
	}
}

// Programs in a folder that the account of the server cannot enter.
func TestPrivatePrograms(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root drops privileges") //nolint:forbidigo // nothing to see as another user; as root it runs
	}
	t.Setenv("TMPDIR", "/tmp") // for everybody
	bin := testdb.BinDir()
	if bin == "" {
		found, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
		if len(found) == 0 {
			t.Fatal("no PostgreSQL to copy in .tools or /usr/lib/postgresql")
		}
		bin = found[len(found)-1]
	}
	private := filepath.Join(t.TempDir(), "private")
	if err := os.Mkdir(private, 0o700); err != nil {
		t.Fatal(err)
	}
	bin, err := filepath.EvalSymlinks(bin)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"bin", "lib", "share"} { // Debian keeps its share folder elsewhere
		from := filepath.Join(filepath.Dir(bin), name)
		if _, err := os.Stat(from); err != nil {
			continue
		}
		if err := os.CopyFS(filepath.Join(private, name), os.DirFS(from)); err != nil {
			t.Fatal(err)
		}
	}
	cfg := config(t.TempDir())
	cfg.BinDir = filepath.Join(private, "bin")
	pids := killRelay(t, cfg)
	left, err := os.Readlink(filepath.Join(cfg.DataDir, "programs"))
	if err != nil {
		t.Fatal(err)
	}
	gone(t, pids)
	c := start(t, cfg)
	if got := query[string](t, c.URL(), readNote); got != "kept" {
		t.Errorf("note is %q", got)
	}
	if _, err := os.Stat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Error("the copy of the killed relay is still there")
	}
	now, err := os.Readlink(filepath.Join(cfg.DataDir, "programs"))
	if err != nil {
		t.Fatal(err)
	}
	stop(t, c)
	if _, err := os.Stat(now); !errors.Is(err, fs.ErrNotExist) {
		t.Error("the copy is still there after the stop")
	}
}

// A server that was killed, with its own recovery left to do, and its stale postmaster.pid.
func TestServerDeathIsReported(t *testing.T) {
	cfg := config(t.TempDir())
	c := start(t, cfg)
	mustExec(t, c.URL(), writeNote)
	if err := syscall.Kill(postmaster(t, cfg.DataDir), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-c.Done()
	if err := c.Err(); err == nil ||
		!strings.HasPrefix(err.Error(), "postgres: the server ended by itself: signal: killed") {
		t.Errorf("got %v", err)
	}
	stop(t, c)
	if got := query[string](t, start(t, cfg).URL(), readNote); got != "kept" {
		t.Errorf("note is %q", got)
	}
}

// When a backend is killed the server restarts all its processes, from the inherited folder.
func TestBackendCrashRecovers(t *testing.T) {
	c := start(t, config(t.TempDir()))
	mustExec(t, c.URL(), writeNote)
	conn, err := pgx.Connect(t.Context(), c.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	// A bystander loses its connection when the server has noticed, and takes no new one until it
	// is back.
	bystander, err := pgx.Connect(t.Context(), c.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer bystander.Close(context.Background())
	if err := syscall.Kill(int(conn.PgConn().PID()), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	wait.Eventually(t, "the connections break", func() bool {
		return conn.Ping(t.Context()) != nil && bystander.Ping(t.Context()) != nil
	})
	wait.Eventually(t, "the server is back", func() bool {
		again, err := pgx.Connect(t.Context(), c.URL())
		return err == nil && again.Close(t.Context()) == nil
	})
	if got := query[string](t, c.URL(), readNote); got != "kept" {
		t.Errorf("note is %q", got)
	}
}

// A stop that gets no time is hard, complete, and loses nothing.
func TestStopWithoutTime(t *testing.T) {
	cfg := config(t.TempDir())
	c := start(t, cfg)
	mustExec(t, c.URL(), writeNote)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	// Whichever comes first; both are right.
	if err := c.Stop(ctx); err != nil {
		t.Log(err)
	}
	select {
	case <-c.Done():
	default:
		t.Fatal("stopped, but not done")
	}
	if got := query[string](t, start(t, cfg).URL(), readNote); got != "kept" {
		t.Errorf("note is %q", got)
	}
}
