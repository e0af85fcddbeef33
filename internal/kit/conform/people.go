package conform

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/obscura-relay/obscura/gen/client"
	"github.com/obscura-relay/obscura/internal/kit/prekeytest"
)

// maxDevices is how many devices a user may have at once.
const maxDevices = 10

// A user is one account that the kit has made.
type user struct {
	name string
	id   uuid.UUID
	// token and refresh are the user-scoped pair of the registration.
	token, refresh string

	deleted atomic.Bool // by a check, which got a 200

	mu        sync.Mutex
	passwords []string // guarded by mu: the last is the one that should work
}

// password is the one that should work.
func (u *user) password() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.passwords[len(u.passwords)-1]
}

// nextPassword makes a new one up. The old one is kept for the cleaning up, should the change fail.
func (k *kit) nextPassword(u *user) string {
	next := randomHex(16)
	k.keepSecret(next)
	u.mu.Lock()
	defer u.mu.Unlock()
	u.passwords = append(u.passwords, next)
	return next
}

// credentials are what a registration is asked for with.
func (k *kit) credentials(name, password string) client.Credentials {
	return client.Credentials{Username: name, Password: password, Invitation: k.invitation}
}

// user registers a user for this try alone.
func (t *try) user() *user {
	u := &user{name: "conform_" + randomHex(10)}
	t.nextPassword(u)
	t.remember(u) // before the request: its answer may be lost
	a := t.call("POST", "/v1/users", "", t.credentials(u.name, u.password())).want(http.StatusCreated, "(register)")
	auth := into[client.AuthResponse](a)
	u.token, u.refresh = auth.Token, auth.RefreshToken
	u.id = t.claims(auth.Token).Sub
	return u
}

// A device is a registered device with what it needs to act.
type device struct {
	user           *user
	id             uuid.UUID
	number         int32
	token, refresh string
	identity       *prekeytest.Identity
	keys           client.NewDevice
}

// deviceOf registers a device of a user with ec and kyber one-time keys, ids from 1 on.
func (t *try) deviceOf(u *user, ec, kyber int) *device {
	identity := newIdentity(false)
	return t.deviceWith(u, identity, newUpload(identity, ec, kyber))
}

func (t *try) deviceWith(u *user, identity *prekeytest.Identity, upload client.NewDevice) *device {
	a := t.call("POST", "/v1/devices", u.token, upload).want(http.StatusCreated, "(register a device)")
	auth := into[client.AuthResponse](a)
	t.must(auth.DeviceID != nil && auth.DeviceNumber != nil, "%s: the answer names no device", a.asked)
	return &device{user: u, id: *auth.DeviceID, number: *auth.DeviceNumber, token: auth.Token,
		refresh:  auth.RefreshToken,
		identity: identity, keys: upload}
}

// device registers a device for this try alone, on an account that other tries share: passwords
// cost time, and registrations are limited. The devices of one try belong to different users.
func (t *try) device() *device { return t.deviceOf(t.owner(), 1, 0) }

// owner returns a shared user with room for a device, none that this try has used.
func (t *try) owner() *user {
	t.sharing.Lock()
	defer t.sharing.Unlock()
	for u, room := range t.rooms {
		if room > 0 && !t.used[u] {
			t.rooms[u]--
			t.used[u] = true
			return u
		}
	}
	u := t.user()
	t.rooms[u], t.used[u] = maxDevices-1, true
	return u
}

// leave deletes all users and returns the names of those that are still there.
func (k *kit) leave(ctx context.Context) (left []string) {
	var mu sync.Mutex
	var g errgroup.Group
	g.SetLimit(4)
	for _, u := range k.users {
		g.Go(func() error {
			if v := k.judge(ctx, func(t *try) { t.remove(u) }); v.result != Pass {
				mu.Lock()
				defer mu.Unlock()
				left = append(left, u.name)
			}
			return nil
		})
	}
	_ = g.Wait()
	slices.Sort(left)
	return left
}

// remove deletes one user, whatever a check has done to its sessions and its password.
func (t *try) remove(u *user) {
	if u.deleted.Load() {
		t.ends(u.token)
		return
	}
	u.mu.Lock()
	passwords := slices.Clone(u.passwords)
	u.mu.Unlock()
	for _, password := range slices.Backward(passwords) {
		token := u.token
		if token == "" || t.call("GET", "/v1/account", token, nil).status != http.StatusOK {
			a := t.call("POST", "/v1/sessions", "", client.LogIn{Username: u.name, Password: password})
			if a.status != http.StatusOK {
				continue
			}
			token = into[client.AuthResponse](a).Token
		}
		if t.call("DELETE", "/v1/account", token, client.DeleteAccount{Password: password}).status == http.StatusOK {
			t.ends(token)
			return
		}
	}
	t.must(u.token == "", "still there") // else the registration never happened
}

// ends fails unless an access token stops working within a second.
func (t *try) ends(token string) {
	t.eventually(soon, "an access token of what has ended still works", func() bool {
		return t.call("GET", "/v1/devices", token, nil).status == http.StatusUnauthorized
	})
}

// works fails unless an access token works.
func (t *try) works(token, whose string) {
	a := t.call("GET", "/v1/devices", token, nil)
	t.must(a.status == http.StatusOK, "%s does not work: %s", whose, a.said())
}

// claims are the payload of an access token.
type claims struct {
	Sub      uuid.UUID  `json:"sub"`
	Session  string     `json:"sid"`
	DeviceID *uuid.UUID `json:"device_id"`
	Issued   int64      `json:"iat"`
	Expires  int64      `json:"exp"`
}

// claims reads an access token as clients do: without the key.
func (t *try) claims(token string) claims {
	var c claims
	parts := strings.Split(token, ".")
	t.must(len(parts) == 3, "the access token is not a JWT")
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	t.must(err == nil && json.Unmarshal(payload, &c) == nil, "the payload of the access token cannot be read")
	return c
}

func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// near reports whether two times are as close as two clocks on the Internet are.
func near(a, b time.Time) bool { return a.Sub(b).Abs() < 5*time.Minute }
