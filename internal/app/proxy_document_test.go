package app_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/obscura-relay/obscura/internal/app"
	"github.com/obscura-relay/obscura/internal/relaytest"
)

func TestNginxTakesTheDocumentedBlock(t *testing.T) {
	t.Parallel()
	certificate, key := newCertificate(t)
	relaytest.CheckNginx(t, certificate, key)
}

func TestTheLimitOfUploadsIsTheRelaysOwnBehindNginx(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t, func(c *app.Config) { c.ReadTimeout = time.Minute })
	device := relay.Register(t).NewDevice(t)
	proxy := relaytest.NewNginx(t, relay.API)
	for _, c := range []struct {
		size   int64
		status int
		code   string
	}{{50 << 20, 201, ""}, {50<<20 + 1, 413, "body_too_large"}, {1, 201, ""}} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, proxy+"/v1/attachments", io.NopCloser(io.LimitReader(zeros{}, c.size)))
		if err != nil {
			t.Fatal(err)
		}
		request.ContentLength = c.size
		request.Header.Set("Authorization", "Bearer "+device.Token)
		response, err := http.DefaultClient.Do(request) //nolint:forbidigo // to nginx, which adds a header of its own
		if err != nil {
			t.Fatal(err)
		}
		var answer struct{ Code string }
		err = json.NewDecoder(response.Body).Decode(&answer)
		_ = response.Body.Close()
		if err != nil || response.StatusCode != c.status || answer.Code != c.code {
			t.Errorf("%d bytes: status %d, code %q, %v", c.size, response.StatusCode, answer.Code, err)
		}
	}
}

// newCertificate makes a certificate and its key, as files.
func newCertificate(t *testing.T) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	signed, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	certificate, key = filepath.Join(folder, "certificate.pem"), filepath.Join(folder, "key.pem")
	for file, block := range map[string]*pem.Block{certificate: {Type: "CERTIFICATE", Bytes: signed}, key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certificate, key
}
