package pushtest

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// WebPush is a push service of RFC 8030 and, for what it delivers, the browsers behind it.
type WebPush struct {
	Service
	subscriptions map[string]*Subscription // guarded by mu
}

// Subscription is what an app gets from its browser, with the browser's secrets.
type Subscription struct {
	Endpoint string
	// P256dh and Auth are in base64url, as a browser gives them.
	P256dh, Auth string

	private *ecdh.PrivateKey
	secret  []byte
	sender  string // the VAPID key that it was made for
}

// NewWebPush starts a push service until the test ends.
func NewWebPush(t testing.TB) *WebPush {
	t.Helper()
	s := &WebPush{subscriptions: map[string]*Subscription{}}
	s.serve(t, s)
	return s
}

// Subscribe makes a subscription for the holder of a VAPID key.
func (s *WebPush) Subscribe(vapid string) *Subscription {
	private, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		s.t.Fatal(err)
	}
	sub := &Subscription{private: private, secret: make([]byte, 16), sender: vapid}
	_, _ = rand.Read(sub.secret)
	path := "/push/" + rand.Text()
	sub.Endpoint = s.URL + path
	sub.P256dh, sub.Auth = base64.RawURLEncoding.EncodeToString(private.PublicKey().Bytes()),
		base64.RawURLEncoding.EncodeToString(sub.secret)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.subscriptions[path] = sub
	return sub
}

var (
	vapidHeader = regexp.MustCompile(`^vapid t=([^,]+), k=([A-Za-z0-9_-]{87})$`)
	topicHeader = regexp.MustCompile(`^[A-Za-z0-9_-]{1,32}$`)
)

// ServeHTTP implements http.Handler.
func (s *WebPush) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	sub := s.subscriptions[r.URL.Path]
	s.mu.Unlock()
	body, err := io.ReadAll(r.Body)
	if err != nil || r.Method != http.MethodPost || sub == nil {
		s.refuse(w, "web push: %s of a subscription known: %v, %v", r.Method, sub != nil, err)
		return
	}
	if ttl, err := strconv.Atoi(r.Header.Get("TTL")); err != nil || ttl < 3600 || ttl > 7*24*3600 {
		s.refuse(w, "web push: TTL %q", r.Header.Get("TTL"))
		return
	}
	if r.Header.Get("Urgency") != "high" || r.Header.Get("Content-Encoding") != "aes128gcm" ||
		!topicHeader.MatchString(r.Header.Get("Topic")) {
		s.refuse(w, "web push: headers %v", r.Header)
		return
	}
	if err := s.authorized(r.Header.Get("Authorization"), sub); err != nil {
		s.refuse(w, "web push: %v", err)
		return
	}
	plain, err := sub.decrypt(body)
	if err != nil {
		s.refuse(w, "web push: the browser cannot read it: %v", err)
		return
	}
	s.answer(w, r, Wake{Address: sub.Endpoint, Plain: plain, Length: len(body)},
		Status(http.StatusCreated, "Location", s.URL+"/message/1"))
}

// authorized checks RFC 8292.
func (s *WebPush) authorized(header string, sub *Subscription) error {
	parts := vapidHeader.FindStringSubmatch(header)
	if parts == nil || parts[2] != sub.sender {
		return errors.New("not signed by whom the subscription is for")
	}
	point, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil {
		return err
	}
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		return err
	}
	var claims jwt.RegisteredClaims
	_, err = jwt.ParseWithClaims(parts[1], &claims, func(*jwt.Token) (any, error) { return key, nil },
		jwt.WithValidMethods([]string{"ES256"}), jwt.WithExpirationRequired(), jwt.WithAudience(s.URL))
	switch {
	case err != nil:
		return err
	case time.Until(claims.ExpiresAt.Time) > 24*time.Hour:
		return errors.New("it expires too late")
	case !regexp.MustCompile(`^(mailto:[^:@]+@[^:@]+|https://.+)$`).MatchString(claims.Subject):
		return errors.New("nobody can be reached at " + claims.Subject)
	}
	return nil
}

// decrypt is RFC 8291 and RFC 8188, from the receiver's side.
func (sub *Subscription) decrypt(body []byte) (string, error) {
	const head = 16 + 4 + 1 + 65
	if len(body) < head || body[20] != 65 || binary.BigEndian.Uint32(body[16:20]) < uint32(len(body)-head) {
		return "", errors.New("not one record with a key")
	}
	salt, public, record := body[:16], body[21:head], body[head:]
	sender, err := ecdh.P256().NewPublicKey(public)
	if err != nil {
		return "", err
	}
	shared, err := sub.private.ECDH(sender)
	if err != nil {
		return "", err
	}
	info := "WebPush: info\x00" + string(sub.private.PublicKey().Bytes()) + string(public)
	ikm, err := hkdf.Key(sha256.New, shared, sub.secret, info, 32)
	if err != nil {
		return "", err
	}
	key, err := hkdf.Key(sha256.New, ikm, salt, "Content-Encoding: aes128gcm\x00", 16)
	if err != nil {
		return "", err
	}
	nonce, err := hkdf.Key(sha256.New, ikm, salt, "Content-Encoding: nonce\x00", 12)
	if err != nil {
		return "", err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return "", err
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return "", err
	}
	padded, err := gcm.Open(nil, nonce, record, nil)
	if err != nil {
		return "", err
	}
	text := strings.TrimRight(string(padded), "\x00")
	text, last := strings.CutSuffix(text, "\x02")
	if !last {
		return "", errors.New("not the last record")
	}
	return text, nil
}
