package pushtest

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// FCM is Google's service, HTTP v1, with its OAuth server.
type FCM struct {
	Service
	// Credentials is the file of a service account.
	Credentials string

	key    *rsa.PrivateKey
	tokens map[string]bool // guarded by mu: that are good
	issued int             // guarded by mu
}

const (
	project = "a-project"
	account = "relay@a-project.example"
)

// NewFCM starts the service until the test ends.
func NewFCM(t testing.TB) *FCM {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	f := &FCM{key: key, tokens: map[string]bool{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /token", f.token)
	mux.HandleFunc("POST /v1/projects/"+project+"/messages:send", f.send)
	f.serve(t, mux)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	file, err := json.Marshal(map[string]string{"type": "service_account", "project_id": project,
		"client_email": account, "private_key_id": "key-1",
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		"token_uri":   f.URL + "/token"})
	if err != nil {
		t.Fatal(err)
	}
	f.Credentials = filepath.Join(t.TempDir(), "account.json")
	if err := os.WriteFile(f.Credentials, file, 0o600); err != nil {
		t.Fatal(err)
	}
	return f
}

// Revoke makes the access tokens that were issued worthless.
func (f *FCM) Revoke() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.tokens)
}

// Issued is how many access tokens were issued.
func (f *FCM) Issued() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.issued
}

// token is the OAuth server: RFC 7523.
func (f *FCM) token(w http.ResponseWriter, r *http.Request) {
	var claims struct {
		jwt.RegisteredClaims
		Scope string `json:"scope"`
	}
	parsed, err := jwt.ParseWithClaims(r.FormValue("assertion"), &claims, func(*jwt.Token) (any, error) {
		return &f.key.PublicKey, nil
	},
		jwt.WithValidMethods([]string{"RS256"}), jwt.WithExpirationRequired(), jwt.WithIssuer(account),
		jwt.WithAudience(f.URL+"/token"))
	if err != nil || r.FormValue("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer" ||
		parsed.Header["kid"] != "key-1" ||
		claims.Scope != "https://www.googleapis.com/auth/firebase.messaging" ||
		time.Until(claims.ExpiresAt.Time) > time.Hour+time.Minute {
		f.refuse(w, "FCM: the assertion: %v", err)
		return
	}
	token := rand.Text()
	f.mu.Lock()
	f.tokens[token] = true
	f.issued++
	f.mu.Unlock()
	body, _ := json.Marshal(map[string]any{"access_token": token, "expires_in": 3599, "token_type": "Bearer"})
	JSON(http.StatusOK, string(body))(w, r)
}

func (f *FCM) send(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	good := f.tokens[bearer(r)]
	f.mu.Unlock()
	if !good {
		JSON(http.StatusUnauthorized, `{"error":{"code":401,"status":"UNAUTHENTICATED"}}`)(w, r)
		return
	}
	var body struct {
		Message struct {
			Token   string            `json:"token"`
			Data    map[string]string `json:"data"`
			Android map[string]string `json:"android"`
		} `json:"message"`
	}
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields() // a notification, say
	m := &body.Message
	if err := decoder.Decode(&body); err != nil || m.Token == "" ||
		!maps.Equal(m.Data, map[string]string{"type": "wake"}) ||
		!maps.Equal(m.Android, map[string]string{"priority": "HIGH", "ttl": "86400s", "collapse_key": "wake"}) {
		f.refuse(w, "FCM: the message: %v, %+v", err, m)
		return
	}
	f.answer(w, r, Wake{Address: m.Token, Plain: m.Data["type"], Length: int(r.ContentLength) - len(m.Token)},
		JSON(http.StatusOK, `{"name":"projects/`+project+`/messages/1"}`))
}
