package testdb

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// NewPgBouncer puts a PgBouncer before the database that a URL names, until the test ends, and
// returns the URL through it. The mode is session, transaction or statement; further settings are
// lines of pgbouncer.ini. The program is the one that PGBOUNCER names, or else the first one found;
// without any the test is skipped, unless PGBOUNCER says that there is one.
func NewPgBouncer(t testing.TB, database, mode string, settings ...string) string {
	t.Helper()
	program := pgBouncer(t)
	behind, err := url.Parse(NewProxy(t, database).URL) // over TCP, whatever account it runs as
	if err != nil {
		t.Fatal(err)
	}
	address := FreeAddress(t)
	_, port, _ := net.SplitHostPort(address)
	folder := t.TempDir()
	name, account := strings.TrimPrefix(behind.Path, "/"), behind.User.Username()
	login := ""
	if password, _ := behind.User.Password(); password != "" {
		login = "password='" + password + "'"
	}
	config := fmt.Sprintf(`[databases]
%[1]s = host=%[2]s port=%[3]s dbname=%[1]s user=%[4]s %[5]s
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %[6]s
unix_socket_dir =
auth_type = any
pool_mode = %[7]s
%[8]s
`, name, behind.Hostname(), behind.Port(), account, login, port, mode, strings.Join(settings, "\n"))
	file := filepath.Join(folder, "pgbouncer.ini")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(context.Background(), program, file)
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	if os.Geteuid() == 0 { // it refuses to run as root
		cmd.SysProcAttr.Credential = nobody(t)
		for _, path := range []string{file, folder} {
			if err := os.Chown(path, int(cmd.SysProcAttr.Credential.Uid), -1); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Chmod(filepath.Dir(folder), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	StartProgram(t, "PgBouncer", cmd, address)
	behind.Host = address
	return behind.String()
}

func pgBouncer(t testing.TB) string {
	t.Helper()
	if named := os.Getenv("PGBOUNCER"); named != "" {
		return named
	}
	for _, name := range []string{"pgbouncer", "/usr/sbin/pgbouncer"} {
		if found, err := exec.LookPath(name); err == nil {
			return found
		}
	}
	t.Skip("there is no PgBouncer: install the package pgbouncer") //nolint:forbidigo // make test installs it and sets PGBOUNCER
	return ""
}

func nobody(t testing.TB) *syscall.Credential {
	t.Helper()
	u, err := user.Lookup("nobody")
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
