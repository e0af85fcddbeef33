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

// nginxBlock matches the configuration that docs/operations.md has for nginx, and what is another in a test.
var (
	nginxBlock  = regexp.MustCompile("(?s)```nginx\n(.*?)```")
	nginxListen = regexp.MustCompile(`listen 443 [^;]*;`)
	nginxTLS    = regexp.MustCompile(`ssl_certificate.*`)
)

// CheckNginx fails unless nginx takes the configuration of docs/operations.md as it stands there, but for the
// port and the certificate.
func CheckNginx(t testing.TB, certificate, key string) {
	t.Helper()
	config := strings.ReplaceAll(documented(t), "listen 443 ", "listen "+freeAddress(t)+" ")
	config = regexp.MustCompile(`(ssl_certificate +)[^;]*;`).ReplaceAllString(config, "${1}"+certificate+";")
	config = regexp.MustCompile(`(ssl_certificate_key +)[^;]*;`).ReplaceAllString(config, "${1}"+key+";")
	folder := t.TempDir()
	cmd := exec.CommandContext(t.Context(), nginx(t), "-t", "-p", folder, "-c", configure(t, folder, config), "-e", "stderr") //nolint:gosec // our own words
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("nginx does not take the configuration of docs/operations.md: %s", out)
	}
}

func documented(t testing.TB) string {
	t.Helper()
	document, err := os.ReadFile(filepath.Join("..", "..", "docs", "operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	found := nginxBlock.FindStringSubmatch(string(document))
	if found == nil || !strings.Contains(found[1], "proxy_pass http://127.0.0.1:3000;") {
		t.Fatal("docs/operations.md has no configuration for nginx")
	}
	return found[1]
}

// freeAddress is one that nginx may take.
func freeAddress(t testing.TB) string {
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

// configure writes a configuration that keeps everything in a folder, and returns its file.
func configure(t testing.TB, folder, servers string) string {
	t.Helper()
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
%[2]s}
`, folder, servers)
	file := filepath.Join(folder, "nginx.conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// NewNginx puts an nginx before the server at a URL, until the test ends, with the configuration that
// docs/operations.md has for it but without TLS, and returns its URL. The program is the one that NGINX
// names, or else the first one found; without any the test is skipped, unless NGINX says that there is one.
func NewNginx(t testing.TB, server string) string {
	t.Helper()
	program := nginx(t)
	at := freeAddress(t)
	folder := t.TempDir()
	config := strings.ReplaceAll(documented(t), "http://127.0.0.1:3000", server)
	config = nginxTLS.ReplaceAllString(nginxListen.ReplaceAllString(config, "listen "+at+";"), "")
	file := configure(t, folder, config)
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
