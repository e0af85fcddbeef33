package storage_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/obscura-relay/obscura/internal/kit/testdb"
	"github.com/obscura-relay/obscura/internal/postgres"
	"github.com/obscura-relay/obscura/internal/storage"
)

const hunter = "hunter2hunter2"

// refusing is a server that gives every connection to answer, which returns false to hang up.
func refusing(t *testing.T, answer func(conn net.Conn)) (address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			running.Go(func() { answer(conn); _ = conn.Close() })
		}
	})
	t.Cleanup(func() { _ = listener.Close(); running.Wait() })
	return listener.Addr().String()
}

// says answers the start of a connection with an error; a wish for TLS is declined.
func says(code, message string) func(net.Conn) {
	return func(conn net.Conn) {
		backend := pgproto3.NewBackend(conn, conn)
		for {
			start, err := backend.ReceiveStartupMessage()
			if err != nil {
				return
			}
			if _, wantsTLS := start.(*pgproto3.SSLRequest); wantsTLS {
				_, _ = conn.Write([]byte("N"))
				continue
			}
			backend.Send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: code, Message: message})
			_ = backend.Flush()
			return
		}
	}
}

// await waits for a database for a while, and returns the error and what was logged.
func await(t *testing.T, url string, timeout time.Duration) (log string, err error) {
	t.Helper()
	var out bytes.Buffer // AwaitReady logs from its own goroutine
	d, err := storage.Open(t.Context(), url,
		storage.Options{MaxConns: 2, Logger: slog.New(slog.NewTextHandler(&out, nil))})
	if err != nil {
		return "", err
	}
	defer d.Close()
	err = d.AwaitReady(t.Context(), timeout)
	return out.String(), err
}

func TestAPermanentRefusalEndsTheWaitAtOnce(t *testing.T) {
	t.Parallel()
	const change = "--database-url (OBSCURA_DATABASE_URL)"
	for name, c := range map[string]struct{ code, message, want string }{
		"password": {"28P01", `password authentication failed for user "obscura"`,
			"check the user and the password in " + change},
		"user": {"28000", `role "obscura" does not exist`,
			"the server's pg_hba.conf, and the user in " + change},
		"database": {"3D000", `database "nowhere" does not exist`,
			"create the database, or change its name in " + change},
		"privilege": {"42501", `permission denied for database "x"`, "grant the user CONNECT"},
		"pooler's parameter": {"08P01", "unsupported startup parameter: statement_timeout",
			"a pooler refuses a setting that the relay needs"},
		"pooler's user": {"08P01", "no such user: obscura",
			"check the user, the password and the database in " + change},
		"parameter": {"42704", `unrecognized configuration parameter "plan_cache_mode"`,
			"the server will not take such a connection"},
		"template": {"55000", `database "x" is not currently accepting connections`,
			"the server will not take such a connection"},
		"repeated password": {"28P01", "no " + hunter, "check the user and the password in"},
	} {
		address := refusing(t, says(c.code, c.message))
		began := time.Now()
		log, err := await(t, "postgres://obscura:"+hunter+"@"+address+"/nowhere", time.Minute)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), address) ||
			!strings.Contains(err.Error(), strings.ReplaceAll(c.message, hunter, "…")) ||
			!strings.Contains(err.Error(), "(SQLSTATE "+c.code+")") {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && strings.Contains(err.Error(), hunter) || strings.Contains(log, "WARN") ||
			time.Since(began) > 20*time.Second {
			t.Errorf("%s: after %v: %v %s", name, time.Since(began), err, log)
		}
	}
}

func TestAPassingRefusalIsWaitedForAndSaid(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer func(net.Conn)
		want   string
	}{
		"starting": {says("57P03", "the database system is starting up"),
			"the database system is starting up (SQLSTATE 57P03)"},
		"too many connections": {says("53300", "sorry, too many clients already"),
			"too many clients already (SQLSTATE 53300)"},
		"pooler's server": {says("08P01", "server login has been failing, try again later (server_login_retry)"),
			"server login has been failing"},
		"no PostgreSQL": {func(conn net.Conn) {
			_, _ = io.WriteString(conn, "HTTP/1.1 400 Bad Request\r\n\r\n")
		}, "without an answer that PostgreSQL would give"},
		"hung up": {func(conn net.Conn) {
			_, _ = conn.Read(make([]byte, 1<<10))
		}, "without an answer that PostgreSQL would give"},
	} {
		address := refusing(t, c.answer)
		log, err := await(t, "postgres://obscura:"+hunter+"@"+address+"/nowhere", 500*time.Millisecond)
		if err == nil || !strings.Contains(err.Error(), c.want) ||
			!strings.Contains(err.Error(), "was not ready within 500ms: PostgreSQL at "+address) {
			t.Errorf("%s: %v", name, err)
		}
		if !strings.Contains(log, "level=WARN") || !strings.Contains(log, "waiting for the database") ||
			!strings.Contains(log, c.want) || strings.Contains(log, hunter) {
			t.Errorf("%s: the log: %s", name, log)
		}
	}
	log, err := await(t, "postgres://obscura:"+hunter+"@127.0.0.1:1/nowhere", 300*time.Millisecond)
	if err == nil || !strings.Contains(err.Error(), "PostgreSQL at 127.0.0.1:1: connection refused") ||
		!strings.Contains(log, "connection refused") {
		t.Errorf("%v: %s", err, log)
	}
}

func TestADatabaseThatComesIsTaken(t *testing.T) {
	t.Parallel()
	behind, err := url.Parse(testdb.NewProxy(t, testdb.NewURL(t)).URL)
	if err != nil {
		t.Fatal(err)
	}
	target := behind.Host
	var tries atomic.Int32
	address := refusing(t, func(conn net.Conn) {
		if tries.Add(1) <= 3 {
			says("57P03", "the database system is starting up")(conn)
			return
		}
		server, err := net.Dial("tcp", target)
		if err != nil {
			return
		}
		go func() { _, _ = io.Copy(server, conn); _ = server.Close() }()
		_, _ = io.Copy(conn, server)
	})
	behind.Host = address
	if log, err := await(t, behind.String(), time.Minute); err != nil || strings.Count(log, "level=WARN") != 1 {
		t.Errorf("%v: %s", err, log)
	}
}

func TestAnUnknownHostAndBadTLSEndTheWaitAtOnce(t *testing.T) {
	t.Parallel()
	plain := refusing(t, says("57P03", "starting up"))
	certificate := httptest.NewUnstartedServer(nil)
	certificate.StartTLS()
	defer certificate.Close()
	secured := refusing(t, func(conn net.Conn) {
		if _, err := pgproto3.NewBackend(conn, conn).ReceiveStartupMessage(); err == nil {
			_, _ = conn.Write([]byte("S"))
			_ = tls.Server(conn, &tls.Config{Certificates: certificate.TLS.Certificates}).Handshake()
		}
	})
	for address, want := range map[string]string{
		"database.invalid:5432/x":           `the host name "database.invalid" is not known: check the host in --database-url`,
		plain + "/x?sslmode=require":        "the server does not speak TLS: check sslmode",
		secured + "/x?sslmode=verify-full":  "the server's certificate is not trusted: check sslmode and sslrootcert",
		"/x?host=/proc/1/root/nowhere":      "permission denied",
		"database.invalid,127.0.0.1:1/wait": "was not ready within 1s",
		plain + "/wait?sslmode=prefer":      "was not ready within 1s",
	} {
		if os.Geteuid() == 0 && want == "permission denied" {
			continue // root may look anywhere
		}
		patience := 20 * time.Second // on a busy machine a handshake takes its time
		if strings.Contains(want, "within 1s") {
			patience = time.Second
		}
		_, err := await(t, "postgres://u:"+hunter+"@"+address, patience)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), hunter) {
			t.Errorf("%s: %v, want %s", address, err, want)
		}
	}
}

func TestABadURLSaysWhatIsWrongWithIt(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"mysql://u:" + hunter +
			"@h/d": "it must look like postgres://user@host/database",
		"host=h " + hunter: "it must look like postgres://user@host/database",
		"postgres://u:" + hunter +
			"@h:99999/d": "its port must be a number from 1 to 65535",
		"postgres://u:" + hunter +
			"/x@h/d": "write @ : / ? # % as %40 %3A %2F %3F %23 %25",
		"postgres://u:" + hunter +
			"%zz@h/d": "in its password, write @ : / ? # % and spaces as",
		"postgres://u:" + hunter +
			"@h/d?sslmode=bogus": "its sslmode must be disable, allow, prefer",
		"postgres://u:" + hunter +
			"@h/d?sslmode=verify-full&sslrootcert=/nowhere": "the file /nowhere, which it names, cannot be read: no such file",
		"postgres://u:" + hunter +
			"@h/d?sslcert=/nowhere": "sslcert and sslkey must name files",
		"postgres://u:" + hunter +
			"@h/d?connect_timeout=abc": "its connect_timeout, or PGCONNECT_TIMEOUT in the environment",
		"postgres://u:" + hunter + "@h/d?target_session_attrs=x":         "PGTARGETSESSIONATTRS",
		"postgres://u:" + hunter + "@h/d?service=x&servicefile=/nowhere": "PGSERVICE",
	} {
		_, err := storage.Open(t.Context(), address, storage.Options{MaxConns: 4})
		if err == nil || !strings.HasPrefix(err.Error(), "the database URL is not valid: ") ||
			!strings.Contains(err.Error(), want) || strings.Contains(err.Error(), hunter) {
			t.Errorf("%s: %v, want %s", address, err, want)
		}
	}
}

// A real server with passwords: what it says is what the table above believes.
func TestARealServersRefusalsAreFinal(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	hba := filepath.Join(folder, "hba")
	if err := os.WriteFile(hba,
		[]byte("local all obscura trust\nlocal all stranger reject\nlocal all all scram-sha-256\n"),
		0o644); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{folder, filepath.Dir(folder)} { // the two that TempDir makes
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cluster, err := postgres.Start(ctx, postgres.Config{DataDir: filepath.Join(folder, "data"), BinDir: testdb.BinDir(),
		Settings: map[string]string{"fsync": "off", "hba_file": hba, "shared_buffers": "16MB"}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cluster.Stop(ctx) }()
	owner := open(t, cluster.URL())
	for _, sql := range []string{"CREATE ROLE guest LOGIN PASSWORD '" + hunter + "'", "CREATE DATABASE closed",
		"REVOKE CONNECT ON DATABASE closed FROM PUBLIC"} {
		if _, err := owner.Pool().Exec(ctx, sql); err != nil {
			t.Fatal(err)
		}
	}
	address := func(user, database string) string {
		u, _ := url.Parse(cluster.URL())
		u.User, u.Path = url.UserPassword(user, hunter), "/"+database
		return u.String()
	}
	if _, err := await(t, address("guest", "obscura"), time.Minute); err != nil {
		t.Errorf("the right password: %v", err)
	}
	wrong := strings.Replace(address("guest", "obscura"), hunter, hunter+"x", 1)
	for url, state := range map[string]string{wrong: "28P01", address("nobody_here", "obscura"): "28P01",
		address("stranger", "obscura"): "28000",
		address("guest", "nowhere"):    "3D000", address("guest", "closed"): "42501",
		address("obscura", "nowhere"): "3D000"} {
		if log, err := await(t, url, time.Minute); err == nil ||
			!strings.Contains(err.Error(), "(SQLSTATE "+state+")") || strings.Contains(err.Error(), hunter) ||
			strings.Contains(log, "WARN") {
			t.Errorf("%s: %v: %s", state, err, log)
		}
	}
	// A user who may connect and not make tables, as everybody but the owner since PostgreSQL 15.
	guest := open(t, address("guest", "obscura"))
	err = guest.Migrate(ctx)
	const want = `the user "guest" must own the database "obscura" and what is in it`
	if err == nil || !strings.Contains(err.Error(), "permission denied for schema public") ||
		!strings.Contains(err.Error(), want) {
		t.Errorf("%v", err)
	}
}
