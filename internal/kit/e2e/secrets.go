package e2e

import (
	"encoding/base64"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

// Secrets are what a log must not hold, by what they are.
type Secrets map[string][]string

// Text adds texts as they are.
func (s Secrets) Text(what string, values ...string) { s[what] = append(s[what], values...) }

// Raw adds bytes in every form in which they might be written.
func (s Secrets) Raw(what string, b []byte) {
	s.Text(what, base64.StdEncoding.EncodeToString(b), base64.RawURLEncoding.EncodeToString(b), hex.EncodeToString(b),
		string(b))
}

// ID adds an id, as bytes and as text.
func (s Secrets) ID(what string, id uuid.UUID) {
	s.Raw(what, id[:])
	s.Text(what, id.String())
}

// Tokens adds a pair of tokens, their parts, and the session that they are of.
func (s Secrets) Tokens(t testing.TB, access, refresh string) {
	parts := strings.Split(access, ".")
	s.Text("access token", access, parts[1], parts[2])
	_, secret, _ := strings.Cut(refresh, ".")
	s.Text("refresh token", refresh, secret)
	session, err := uuid.Parse(relaytest.Claims(t, access)["sid"].(string))
	if err != nil {
		t.Fatal(err)
	}
	s.ID("session", session)
}
