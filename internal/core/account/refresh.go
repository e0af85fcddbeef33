package account

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/internal/core"
)

// A refresh token is its session's id, a point, and 16 random bytes with the first 16 of their
// HMAC-SHA256 (RFC 2104) under a key of the session, which follows from the key of the relay. So an
// old one is known for what it is after its row and its session have gone, and somebody who knows
// the id, which stands in every access token, cannot make one up.
const (
	idText    = 22 // of 16 bytes in base64
	tokenText = idText + 1 + 43
	randomLen = 16
)

// encoding takes one spelling of each token: another one is made up.
var encoding = base64.RawURLEncoding.Strict()

func newRefreshToken(session core.SessionID, key []byte) string {
	secret := randomBytes(randomLen)
	return encoding.EncodeToString(session[:]) + "." +
		encoding.EncodeToString(append(secret, seal(session, key, secret)...))
}

// sessionOf reads the session that a refresh token names.
func sessionOf(refresh string) (core.SessionID, bool) {
	if len(refresh) != tokenText || refresh[idText] != '.' {
		return uuid.Nil, false
	}
	raw, err := encoding.DecodeString(refresh[:idText])
	if err != nil || len(raw) != len(uuid.UUID{}) {
		return uuid.Nil, false
	}
	return uuid.UUID(raw), true
}

// isRefreshToken reports whether we have ever issued a token for its session.
func isRefreshToken(session core.SessionID, key []byte, refresh string) bool {
	raw, err := encoding.DecodeString(refresh[idText+1:])
	return err == nil && len(raw) == 2*randomLen && hmac.Equal(raw[randomLen:], seal(session, key, raw[:randomLen]))
}

// issued reports whether this user has ever got a refresh token of this session.
func (s *Service) issued(user core.UserID, session core.SessionID, refresh string) bool {
	return isRefreshToken(session, s.guesses.sessionKey(user, session), refresh)
}

func seal(session core.SessionID, key, secret []byte) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write(session[:])
	mac.Write(secret)
	return mac.Sum(nil)[:randomLen]
}
