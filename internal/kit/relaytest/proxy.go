package relaytest

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/obscura-relay/obscura/internal/kit/testdb"
)

// Proxy is a program that docs/operations.md has a configuration for. HAProxy sends a header of the
// PROXY protocol, so its relay has to trust it.
type Proxy struct {
	Name string

	program, variable string
	block             *regexp.Regexp // finds the configuration in the document
	run, check        []string       // arguments; FOLDER and FILE stand for those of the test
	// whole makes a configuration that keeps everything in a folder out of the document's; plain
	// moves the document's to an address, without TLS.
	whole func(documented, folder string) string
	plain func(documented, address string) string
}

// Proxies are those of the document.
var Proxies = []Proxy{
	{
		Name: "nginx", program: "nginx", variable: "NGINX",
		block: regexp.MustCompile("(?s)```nginx\n(.*?)```"),
		run:   []string{"-p", "FOLDER", "-c", "FILE", "-e", "stderr"},
		check: []string{"-t", "-p", "FOLDER", "-c", "FILE", "-e", "stderr"},
		whole: func(documented, folder string) string {
			return strings.ReplaceAll(nginxWhole, "FOLDER", folder) + documented + "}\n"
		},
		plain: func(documented, address string) string {
			return nginxTLS.ReplaceAllString(nginxListen.ReplaceAllString(documented, "listen "+address+";"), "")
		},
	},
	{
		Name: "HAProxy", program: "haproxy", variable: "HAPROXY",
		block: regexp.MustCompile("(?s)```haproxy\n(.*?)```"),
		run:   []string{"-db", "-f", "FILE"},
		check: []string{"-c", "-f", "FILE"},
		whole: func(documented, _ string) string { return "global\n    maxconn 500\n" + documented },
		plain: func(documented, address string) string {
			return strings.Replace(documented, "bind :443", "bind "+address, 1)
		},
	},
	{
		Name: "Caddy", program: "caddy", variable: "CADDY",
		block: regexp.MustCompile("(?s)```caddyfile\n(.*?)```"),
		run:   []string{"run", "--adapter", "caddyfile", "--config", "FILE"},
		check: []string{"validate", "--adapter", "caddyfile", "--config", "FILE"},
		whole: func(documented, folder string) string {
			return "{\n\tadmin off\n\tstorage file_system " + folder + "\n}\n" + documented
		},
		plain: func(documented, address string) string {
			return strings.Replace(documented, "relay.example.org", "http://"+address, 1)
		},
	},
}

const nginxWhole = `daemon off;
master_process off;
pid FOLDER/pid;
error_log stderr;
events {}
http {
    access_log off;
    client_body_temp_path FOLDER/body;
    proxy_temp_path FOLDER/proxy;
    fastcgi_temp_path FOLDER/fastcgi;
    uwsgi_temp_path FOLDER/uwsgi;
    scgi_temp_path FOLDER/scgi;
`

var (
	nginxListen = regexp.MustCompile(`listen 443 [^;]*;`)
	nginxTLS    = regexp.MustCompile(`ssl_certificate.*`)
)

// Check fails unless the proxy takes the configuration of docs/operations.md as it stands there.
// For nginx the port is another, and the certificate, which must exist.
func (p Proxy) Check(t testing.TB, certificate, key string) {
	t.Helper()
	config := strings.ReplaceAll(p.documented(t), "listen 443 ", "listen "+testdb.FreeAddress(t)+" ")
	config = regexp.MustCompile(`(ssl_certificate +)[^;]*;`).ReplaceAllString(config, "${1}"+certificate+";")
	config = regexp.MustCompile(`(ssl_certificate_key +)[^;]*;`).ReplaceAllString(config, "${1}"+key+";")
	if out, err := p.command(t, p.check, config).CombinedOutput(); err != nil {
		t.Fatalf("%s does not take the configuration of docs/operations.md: %s", p.Name, out)
	}
}

// Start puts the proxy before the server at a URL, until the test ends, with the configuration that
// docs/operations.md has for it but without TLS, and returns its URL. See Find.
func (p Proxy) Start(t testing.TB, server string) string {
	t.Helper()
	at := testdb.FreeAddress(t)
	_, host, _ := strings.Cut(server, "://")
	cmd := p.command(t, p.run, strings.ReplaceAll(p.plain(p.documented(t), at), "127.0.0.1:3000", host))
	testdb.StartProgram(t, p.Name, cmd, at)
	return "http://" + at
}

// Find returns the program: the one that NGINX or CADDY names, or else the first one found. Without
// any the test is skipped.
func (p Proxy) Find(t testing.TB) string {
	t.Helper()
	if named := os.Getenv(p.variable); named != "" {
		return named
	}
	for _, name := range []string{p.program, "/usr/sbin/" + p.program} {
		if found, err := exec.LookPath(name); err == nil {
			return found
		}
	}
	t.Skipf("there is no %s: tools/ensure-proxies.sh installs it", p.Name) //nolint:forbidigo // CI installs it before its tests
	return ""
}

// command is the program with a configuration, not yet started.
func (p Proxy) command(t testing.TB, arguments []string, config string) *exec.Cmd {
	t.Helper()
	program, folder := p.Find(t), t.TempDir()
	file := filepath.Join(folder, "configuration")
	if err := os.WriteFile(file, []byte(p.whole(config, folder)), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(context.Background(), program)
	for _, argument := range arguments {
		cmd.Args = append(cmd.Args, strings.NewReplacer("FOLDER", folder, "FILE", file).Replace(argument))
	}
	cmd.Env = append(os.Environ(), "HOME="+folder, "XDG_CONFIG_HOME="+folder, "XDG_DATA_HOME="+folder)
	return cmd
}

func (p Proxy) documented(t testing.TB) string {
	t.Helper()
	document, err := os.ReadFile(filepath.Join(testdb.Root(), "docs", "operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	found := p.block.FindStringSubmatch(string(document))
	if found == nil || !strings.Contains(found[1], "127.0.0.1:3000") ||
		!strings.Contains(found[1], "relay.example.org") {
		t.Fatalf("docs/operations.md has no configuration for %s", p.Name)
	}
	return found[1]
}
