package main

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/obscura-relay/obscura/internal/kit/testdb"
)

// trustRoot is what a relay says of its root.
func trustRoot(t *testing.T, api string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, api+"/v1/certificates/root", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	var answer struct{ PublicKey string }
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		t.Fatal(err)
	}
	return answer.PublicKey
}

// prints runs a command and wants these lines on standard output.
func prints(t *testing.T, environ []string, want string, args ...string) {
	t.Helper()
	cmd := command(t, environ, args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if out, err := cmd.Output(); err != nil || string(out) != want {
		t.Errorf("%v: %v: %s%s, want %s", args, err, out, &stderr, want)
	}
}

func TestCertificatesAreShownAndRotated(t *testing.T) {
	t.Parallel()
	environ := []string{"DATABASE_URL=" + testdb.NewURL(t)}
	const none = "obscura: the database has no keys of sender certificates yet: a relay makes them when it starts\n"
	if out := fails(t, environ, "certificates", "show"); !strings.HasSuffix(out, none) {
		t.Errorf("before a start: %s", out)
	}
	_, api, _ := serving(t, environ)
	root := "trust root: " + trustRoot(t, api) + "\nserver certificate: "
	prints(t, environ, root+"1\n", "certificates", "show")
	prints(t, environ, root+"2\n", "certificates", "rotate")
	prints(t, environ, root+"2\n", "certificates", "show")
}

func TestCertificatesInTheDataFolderOfARunningRelay(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	environ := []string{"OBSCURA_DATA_DIR=" + folder, "OBSCURA_POSTGRES_BIN=" + testdb.BinDir()}
	if out := fails(t, environ, "certificates", "show"); !strings.Contains(out, folder+" has no database") {
		t.Errorf("before a start: %s", out)
	}
	if entries, err := os.ReadDir(folder); err != nil || len(entries) > 0 {
		t.Errorf("showing has made %v, %v", entries, err)
	}
	cmd, api, _ := serving(t, environ)
	root := "trust root: " + trustRoot(t, api) + "\nserver certificate: "
	prints(t, environ, root+"2\n", "certificates", "rotate")
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	prints(t, environ, root+"2\n", "certificates", "show") // it starts the server itself
}

func TestOperatorsCertificateComesFromFiles(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../internal/core/certificate/testdata/libsignal.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors struct {
		Certificates []struct{ Root string }
		Operator     struct{ Root, Certificate, Key string }
	}
	if err := json.Unmarshal(text, &vectors); err != nil {
		t.Fatal(err)
	}
	own, folder := vectors.Operator, t.TempDir()
	file := func(name, content string) string {
		name = filepath.Join(folder, name)
		if err := os.WriteFile(name, []byte(content+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	certificate, key := file("certificate", own.Certificate), file("key", own.Key)
	settings := func(root, certificate, key string) []string {
		return []string{"DATABASE_URL=" + testdb.NewURL(t), "OBSCURA_TRUST_ROOT=" + root,
			"OBSCURA_SERVER_CERTIFICATE=" + certificate, "OBSCURA_SERVER_CERTIFICATE_KEY=" + key}
	}
	environ := settings(own.Root, certificate, key)
	_, api, _ := serving(t, environ)
	if got := trustRoot(t, api); got != own.Root {
		t.Errorf("the trust root is %s", got)
	}
	prints(t, environ, "trust root: "+own.Root+"\nserver certificate: 7\n", "certificates", "show")
	if out := fails(t, environ, "certificates", "rotate"); !strings.Contains(out, "the server key is one of your own") {
		t.Errorf("rotate: %s", out)
	}

	other := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", 32)))
	for want, environ := range map[string][]string{
		"--server-certificate-key cannot be used: it must be the private key of the server certificate, 32 bytes": settings(own.Root, certificate, file("other", other)),
		"--server-certificate cannot be used: it is not a server certificate of libsignal":                        settings(own.Root, key, key),
		"--server-certificate cannot be used: the trust root has not signed it":                                   settings(vectors.Certificates[0].Root, certificate, key),
		"--server-certificate cannot be used: the file cannot be opened: no such file or directory":               settings(own.Root, "/nowhere", key),
		"--trust-root cannot be used: it must be the public key":                                                  settings(own.Key, certificate, key),
		"--server-certificate-key cannot be used: the file must hold base64":                                      settings(own.Root, certificate, file("text", "no base64")),
		// The key itself, where the name of its file belongs.
		"--server-certificate-key cannot be used: the file cannot be opened": settings(own.Root, certificate, own.Key),
		"must be given together": settings(own.Root, certificate, ""),
	} {
		out := fails(t, environ, "serve", "--listen=127.0.0.1:0", "--management-listen=127.0.0.1:0")
		last := regexp.MustCompile(`(?m)^obscura: .*$`).FindString(out)
		last = regexp.MustCompile(` \(OBSCURA_\w+\)`).ReplaceAllString(last, "")
		if !strings.Contains(last, want) || strings.Contains(out, own.Key) || strings.Contains(out, other) {
			t.Errorf("%s, want %s", out, want)
		}
	}
}
