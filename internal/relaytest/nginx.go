package relaytest

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// NewNginx puts an nginx before the server at a URL, until the test ends, with the location that
// docs/operations.md has for it, and returns its URL. The program is the one that NGINX names, or else the
// first one found; without any the test is skipped, unless NGINX says that there is one.
func NewNginx(t testing.TB, server string) string {
	t.Helper()
	program := nginx(t)
	document, err := os.ReadFile(filepath.Join("..", "..", "docs", "operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	location := regexp.MustCompile(`(?s)    location / \{.*?\n    \}\n`).FindString(string(document))
	if !strings.Contains(location, "proxy_pass http://127.0.0.1:3000;") {
		t.Fatal("docs/operations.md has no location for nginx")
	}
	location = strings.ReplaceAll(location, "http://127.0.0.1:3000", server)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := listener.Addr().String()
	if err := listener.Close(); err != nil { // nginx takes the port
		t.Fatal(err)
	}
	folder := t.TempDir()
	config := fmt.Sprintf(`daemon off;
master_process off;
pid %[1]s/pid;
error_log stderr;
events {}
http {
    access_log off;
    client_body_temp_path %[1]s/body;
    proxy_temp_path %[1]s/proxy;
    fastcgi_temp_path %[1]s/fastcgi;
    uwsgi_temp_path %[1]s/uwsgi;
    scgi_temp_path %[1]s/scgi;
    map $http_upgrade $connection_upgrade { default upgrade; '' ''; }
    server {
    listen %[2]s;
%[3]s    }
}
`, folder, at, location)
	file := filepath.Join(folder, "nginx.conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	cmd := exec.CommandContext(context.Background(), program, "-p", folder, "-c", file, "-e", "stderr") //nolint:gosec // our own words
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("nginx: %s", &log)
		}
	})
	Eventually(t, "nginx listens", func() bool {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", at)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	return "http://" + at
}

func nginx(t testing.TB) string {
	t.Helper()
	if named := os.Getenv("NGINX"); named != "" {
		return named
	}
	for _, name := range []string{"nginx", "/usr/sbin/nginx"} {
		if found, err := exec.LookPath(name); err == nil {
			return found
		}
	}
	t.Skip("there is no nginx: tools/ensure-nginx.sh installs it") //nolint:forbidigo // CI installs it before its tests
	return ""
}
