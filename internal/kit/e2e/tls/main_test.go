// Package tls_test tests a relay that speaks TLS itself, with certificates from files and from an
// ACME authority that is not ours (Pebble).
package tls_test

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/obscura-relay/obscura/internal/app"
	"github.com/obscura-relay/obscura/internal/kit/certtest"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

// authority is one that this process trusts, the relay's ACME client and all clients without a word
// about it, as an operator's is with SSL_CERT_FILE.
var authority = certtest.New()

func TestMain(m *testing.M) {
	folder, err := os.MkdirTemp("", "obscura-tls")
	if err != nil {
		panic(err)
	}
	root := filepath.Join(folder, "root.pem")
	if err := os.WriteFile(root, authority.PEM(), 0o600); err != nil {
		panic(err)
	}
	for name, value := range map[string]string{"SSL_CERT_FILE": root, "SSL_CERT_DIR": folder, "PEBBLE_VA_NOSLEEP": "1",
		"PEBBLE_WFE_NONCEREJECT": "0"} {
		if err := os.Setenv(name, value); err != nil {
			panic(err)
		}
	}
	// They are read once for the whole process, and the folder is needed no longer.
	if _, err := x509.SystemCertPool(); err != nil {
		panic(err)
	}
	if err := os.RemoveAll(folder); err != nil {
		panic(err)
	}
	relaytest.Main(m,
		// certmagic keeps a limiter for each authority, and looks at a lock for 5 s more.
		goleak.IgnoreAnyFunction("github.com/caddyserver/certmagic.(*RingBufferRateLimiter).loop"),
		goleak.IgnoreAnyFunction("github.com/caddyserver/certmagic.keepLockfileFresh"),
		goleak.IgnoreAnyFunction("github.com/letsencrypt/pebble/v2/va.VAImpl.processTasks"))
}

// secure has a relay speak TLS with a certificate from files.
func secure(t *testing.T) func(*app.Config) {
	t.Helper()
	certificate, key := authority.Files(t)
	return func(c *app.Config) { c.TLSCertificate, c.TLSKey = certificate, key }
}
