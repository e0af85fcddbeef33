package postgres_test

import (
	"context"
	"fmt"
	"io"
	"os"
	osexec "os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/obscura-relay/obscura/internal/postgres"
)

// intruderHosts makes the test binary somebody who tries to get in, at these folders of a socket.
const intruderHosts = "OBSCURA_TEST_POSTGRES_INTRUDER"

// intruder tells at which of the folders the server took it for a superuser.
func intruder(hosts string) {
	for _, host := range strings.Split(hosts, ",") {
		conn, err := pgx.Connect(context.Background(),
			"host="+host+" port=5432 user=obscura dbname=obscura sslmode=disable")
		if err == nil {
			fmt.Println("in:", host)
			_ = conn.Close(context.Background())
		}
	}
	os.Exit(0)
}

// needsRoot is for what only root's relay does.
func needsRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root drops privileges") //nolint:forbidigo // nothing to see as another user; as root it runs
	}
}

// credential is that of an account of this machine.
func credential(t *testing.T, name string) *syscall.Credential {
	t.Helper()
	u, err := user.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

// others are the accounts that something else may run as.
func others() (names []string) {
	for _, name := range []string{"postgres", "nobody"} {
		if _, err := user.Lookup(name); err == nil {
			names = append(names, name)
		}
	}
	return names
}

// executable copies this test binary to where every account may run it.
func executable(t *testing.T) string {
	t.Helper()
	folder, err := os.MkdirTemp("/tmp", "obscura-intruder-") //nolint:usetesting // the folders above t.TempDir() are closed to other accounts
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	if err := os.Chmod(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	from, err := os.Open(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	to, err := os.OpenFile(filepath.Join(folder, "intruder"), os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	if _, err := io.Copy(to, from); err != nil {
		t.Fatal(err)
	}
	return to.Name()
}

func TestOtherAccountsDoNotReachTheServer(t *testing.T) {
	needsRoot(t)
	cfg := config(t.TempDir())
	start(t, cfg)
	program := executable(t)
	server := fmt.Sprintf("/proc/%d", postmaster(t, cfg.DataDir))
	hosts := filepath.Join(cfg.DataDir, "run") + "," + server + "/fd/4," + server + "/root" + filepath.Join(cfg.DataDir,
		"run")
	for _, name := range append(others(), "root") {
		cmd := osexec.Command(program)
		cmd.Env = []string{intruderHosts + "=" + hosts}
		if name != "root" {
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: credential(t, name)}
		}
		cmd.Dir = "/"
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatal(err, string(out))
		}
		if got := strings.Contains(string(out), "in:"); got != (name == "root") {
			t.Errorf("%s gets in: %v\n%s", name, got, out)
		}
	}
	var st syscall.Stat_t
	if err := syscall.Stat(server, &st); err != nil {
		t.Fatal(err)
	}
	if owner, err := user.LookupId(strconv.Itoa(int(st.Uid))); err == nil && owner.Username != "obscura-postgres" {
		t.Errorf("the server runs as %s", owner.Username)
	}
}

func chown(t *testing.T, dir string, as *syscall.Credential) {
	t.Helper()
	if err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, int(as.Uid), int(as.Gid))
	}); err != nil {
		t.Fatal(err)
	}
}

func TestAFolderOfAnEarlierVersionStarts(t *testing.T) {
	needsRoot(t)
	for _, name := range others() {
		cfg := config(t.TempDir())
		first := start(t, cfg)
		mustExec(t, first.URL(), writeNote)
		stop(t, first)
		for _, folder := range []string{"cluster", "run"} { // as that version left it
			chown(t, filepath.Join(cfg.DataDir, folder), credential(t, name))
		}
		again := start(t, cfg)
		if got := query[string](t, again.URL(), readNote); got != "kept" {
			t.Errorf("%s: note is %q", name, got)
		}
		var st syscall.Stat_t
		if err := syscall.Stat(filepath.Join(cfg.DataDir, "cluster", "PG_VERSION"), &st); err != nil ||
			st.Uid == credential(t, name).Uid {
			t.Errorf("the cluster is still that of %s: %v", name, err)
		}
		stop(t, again)
	}
}

func TestAFolderOfAnotherUserIsRefused(t *testing.T) {
	needsRoot(t)
	cfg := config(t.TempDir())
	if err := os.Chown(cfg.DataDir, 4711, 4711); err != nil {
		t.Fatal(err)
	}
	_, err := postgres.Start(t.Context(), cfg)
	want := "postgres: the data folder " + cfg.DataDir +
		" belongs to the user id 4711 and the relay runs as root: start the relay as that user, or give the folder to root (chown root)"
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}
