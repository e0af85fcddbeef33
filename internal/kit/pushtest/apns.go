package pushtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// What Apple knows the app by.
const (
	KeyID  = "ABCDE12345"
	TeamID = "FGHIJ67890"
	Topic  = "org.example.chat"
)

// APNs is Apple's service: HTTP/2, with a provider token.
type APNs struct {
	Service
	// Key is a .p8 file.
	Key string

	private *ecdsa.PrivateKey
}

// NewAPNs starts the service until the test ends.
func NewAPNs(t testing.TB) *APNs {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	a := &APNs{private: key, Key: filepath.Join(t.TempDir(), "key.p8")}
	if err := os.WriteFile(a.Key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	a.serve(t, a)
	return a
}

var devicePath = regexp.MustCompile(`^/3/device/([0-9a-fA-F]{64,200})$`)

// ServeHTTP implements http.Handler.
func (a *APNs) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	path := devicePath.FindStringSubmatch(r.URL.Path)
	if err != nil || r.ProtoMajor != 2 || r.Method != http.MethodPost || path == nil {
		a.refuse(w, "APNs: %s %s, %v", r.Proto, r.Method, err)
		return
	}
	var claims jwt.RegisteredClaims
	parsed, err := jwt.ParseWithClaims(bearer(r), &claims, func(*jwt.Token) (any, error) {
		return &a.private.PublicKey, nil
	},
		jwt.WithValidMethods([]string{"ES256"}), jwt.WithIssuer(TeamID), jwt.WithIssuedAt())
	if err != nil || parsed.Header["kid"] != KeyID || claims.IssuedAt == nil ||
		time.Since(claims.IssuedAt.Time) > time.Hour {
		a.refuse(w, "APNs: the provider token: %v", err)
		return
	}
	h := r.Header.Get
	expires, err := strconv.ParseInt(h("apns-expiration"), 10, 64)
	if err != nil || time.Until(time.Unix(expires, 0)) < time.Hour || h("apns-topic") != Topic ||
		h("apns-push-type") != "alert" ||
		h("apns-priority") != "10" || h("apns-collapse-id") == "" {
		a.refuse(w, "APNs: headers %v", r.Header)
		return
	}
	a.answer(w, r, Wake{Address: path[1], Plain: string(body), Length: len(body)}, Status(http.StatusOK))
}

func bearer(r *http.Request) string {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "bearer") {
		return ""
	}
	return token
}
