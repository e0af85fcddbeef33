package app

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/obscura-relay/obscura/internal/kit/certtest"
)

func write(t *testing.T, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestCertificateFilesThatCannotServeAreRefused(t *testing.T) {
	t.Parallel()
	authority, now := certtest.New(), time.Now()
	good, key := authority.Issue(now.Add(-time.Hour), now.Add(time.Hour))
	_, otherKey := authority.Issue(now.Add(-time.Hour), now.Add(time.Hour))
	old, oldKey := authority.Issue(now.Add(-2*time.Hour), now.Add(-time.Hour))
	early, earlyKey := authority.Issue(now.Add(time.Hour), now.Add(2*time.Hour))
	for name, c := range map[string]struct {
		certificate, key []byte
		want             string
	}{
		"expired": {old, oldKey, "--tls-certificate has expired at " +
			now.Add(-time.Hour).UTC().Format(time.RFC3339) + ": renew it"},
		"not yet valid":          {early, earlyKey, "--tls-certificate is not valid before "},
		"another's key":          {good, otherKey, "--tls-key is not the key of the first certificate in --tls-certificate"},
		"the root first":         {append(authority.PEM(), good...), key, "--tls-key is not the key of the first certificate"},
		"no certificate":         {nil, key, "--tls-certificate cannot be used: the file must begin with a certificate in PEM"},
		"no key":                 {good, nil, "--tls-key cannot be used: the file must begin with a private key in PEM"},
		"the two mixed up":       {key, good, "--tls-certificate cannot be used: the file must begin with a certificate in PEM"},
		"a broken certificate":   {bytes.Replace(good, []byte("MII"), []byte("AII"), 1), key, "--tls-certificate cannot be used: "},
		"a broken key":           {good, bytes.Replace(key, []byte("MI"), []byte("AI"), 1), "--tls-key is not the key of"},
		"a certificate as a key": {good, good, "--tls-key cannot be used: the file must begin with a private key in PEM"},
	} {
		folder := t.TempDir()
		cfg := TLS{TLSCertificate: filepath.Join(folder, "c"), TLSKey: filepath.Join(folder, "k")}
		write(t, cfg.TLSCertificate, c.certificate)
		write(t, cfg.TLSKey, c.key)
		err := cfg.validateTLS()
		if err == nil || !strings.HasPrefix(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
	nowhere := TLS{TLSCertificate: filepath.Join(t.TempDir(), "c"), TLSKey: "k"}
	if err := nowhere.validateTLS(); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("a file that is not there: %v", err)
	}
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{pipe, t.TempDir(), "/dev/zero"} {
		cfg := TLS{TLSCertificate: name, TLSKey: name}
		if err := cfg.validateTLS(); err == nil || err.Error() != "--tls-certificate cannot be used: it is not a regular file" {
			t.Errorf("%s: %v", name, err)
		}
	}
	key = bytes.TrimSpace(key) // the key itself by mistake
	cfg := TLS{TLSCertificate: filepath.Join(t.TempDir(), "c"), TLSKey: string(key)}
	write(t, cfg.TLSCertificate, good)
	if err := cfg.validateTLS(); err == nil || strings.Contains(err.Error(), "BEGIN") {
		t.Errorf("a key in the place of its name: %v", err)
	}
}

// watched is a pair of files that a bubble watches.
type watched struct {
	*certificateFiles
	mu  sync.Mutex
	log []byte // guarded by mu
}

// Write implements io.Writer.
func (w *watched) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.log = append(w.log, p...)
	return len(p), nil
}

func watch(t *testing.T, certificate, key string) *watched {
	t.Helper()
	w := &watched{certificateFiles: &certificateFiles{certificate: certificate, key: key}}
	if err := w.read(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- w.watch(ctx, slog.New(slog.NewTextHandler(w, nil))) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return w
}

// settle lets the files be looked at three times, and returns what is served and was logged then.
func (w *watched) settle() (certificate []byte, log string) {
	time.Sleep(3*certificatesEvery + time.Second) // fake time
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	log, w.log = string(w.log), nil
	return w.current.Load().Certificate[0], log
}

func TestACertificateIsReplacedHoweverItsFilesAre(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		authority, folder := certtest.New(), t.TempDir()
		issue := func() (certificate, key []byte) {
			return authority.Issue(time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour))
		}
		at := func(name string) string { return filepath.Join(folder, name) }
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		// The layout of Kubernetes and of certbot: names are links into a folder that is a link.
		for _, generation := range []string{"1", "2"} {
			must(os.Mkdir(at(generation), 0o700))
			certificate, key := issue()
			write(t, at(generation+"/tls.crt"), certificate)
			write(t, at(generation+"/tls.key"), key)
		}
		must(os.Symlink("1", at("data")))
		must(os.Symlink("data/tls.crt", at("tls.crt")))
		must(os.Symlink("data/tls.key", at("tls.key")))
		w := watch(t, at("tls.crt"), at("tls.key"))
		first, log := w.settle()
		if log != "" {
			t.Errorf("nothing has changed: %s", log)
		}
		replaced := func(how string, before []byte) []byte {
			t.Helper()
			now, log := w.settle()
			if bytes.Equal(now, before) || strings.Count(log, "the TLS certificate was replaced") != 1 {
				t.Errorf("%s: %s", how, log)
			}
			return now
		}
		must(os.Symlink("2", at("next")))
		must(os.Rename(at("next"), at("data")))
		second := replaced("a folder's link", first)

		certificate, key := issue()
		write(t, at("new.crt"), certificate)
		write(t, at("new.key"), key)
		must(os.Rename(at("new.crt"), at("tls.crt")))
		must(os.Rename(at("new.key"), at("tls.key")))
		third := replaced("files that are renamed", second)

		certificate, key = issue()
		write(t, at("tls.crt"), certificate)
		write(t, at("tls.key"), key)
		fourth := replaced("files that are written over", third)

		for how, change := range map[string]func(){
			"another's key":   func() { _, key := issue(); write(t, at("tls.key"), key) },
			"nothing in them": func() { write(t, at("tls.crt"), nil); write(t, at("tls.key"), nil) },
			"they are gone":   func() { must(os.Remove(at("tls.crt"))); must(os.Remove(at("tls.key"))) },
			"expired": func() {
				old, oldKey := authority.Issue(time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour))
				write(t, at("tls.crt"), old)
				write(t, at("tls.key"), oldKey)
			},
		} {
			change()
			now, log := w.settle()
			if !bytes.Equal(now, fourth) || strings.Count(log, "the changed TLS certificate is not used") != 1 {
				t.Errorf("%s: %s", how, log)
			}
		}
		certificate, key = issue()
		write(t, at("tls.crt"), certificate)
		write(t, at("tls.key"), key)
		replaced("after what could not be used", fourth)
	})
}
