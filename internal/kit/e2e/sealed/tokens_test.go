package sealed_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/gen/client"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/prekeytest"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
	"github.com/obscura-relay/obscura/internal/kit/testdb"
)

func change(t *testing.T, d *relaytest.Device, add []client.NewDeliveryToken, remove ...[]byte) e2e.Reply {
	t.Helper()
	got, err := d.ChangeDeliveryTokensWithResponse(t.Context(), client.DeliveryTokenChange{Add: add, Remove: remove})
	if err != nil {
		t.Fatal(err)
	}
	reply := e2e.Reply{Status: got.StatusCode(), Body: got.Body}
	if reply.Status != http.StatusOK {
		reply.Code = reply.Member(t, "code")
	}
	return reply
}

func list(t *testing.T, d *relaytest.Device) []client.DeliveryToken {
	t.Helper()
	got, err := d.ListDeliveryTokensWithResponse(t.Context())
	if err != nil || got.JSON200 == nil {
		t.Fatalf("%v %s", err, got.Body)
	}
	return got.JSON200.Tokens
}

func TestDeliveryTokensAreAddedListedAndRemoved(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	bob := relay.Register(t)
	phone, tablet := bob.NewDevice(t), bob.NewDevice(t)
	if got := list(t, phone); got == nil || len(got) != 0 {
		t.Errorf("at first: %v", got)
	}
	a, b := relaytest.HashOf([]byte("a")), relaytest.HashOf([]byte("b"))
	end := time.Now().Add(time.Hour).Truncate(time.Millisecond)
	change(t, phone, []client.NewDeliveryToken{{Hash: a}, {Hash: b, ExpiresAt: &end}}).Want(t, 200, "")
	got := list(t, tablet) // the tokens are the user's
	if len(got) != 2 || string(got[0].Hash) == string(got[1].Hash) || time.Since(got[0].CreatedAt) > time.Minute {
		t.Fatalf("listed: %v", got)
	}
	for _, token := range got {
		if expires := token.ExpiresAt; string(token.Hash) == string(a) != (expires == nil) ||
			expires != nil && !expires.Equal(end) {
			t.Errorf("listed: %v", token)
		}
	}
	// What is there is added again, what is not there is removed: no errors. The new end counts.
	change(t, tablet, []client.NewDeliveryToken{{Hash: b}}, relaytest.HashOf([]byte("c"))).Want(t, 200, "")
	if got := list(t, phone); len(got) != 2 || got[0].ExpiresAt != nil || got[1].ExpiresAt != nil {
		t.Errorf("after an addition of what is there: %v", got)
	}
	// All or nothing.
	past := time.Now().Add(-time.Second)
	change(t, phone, []client.NewDeliveryToken{{Hash: relaytest.HashOf([]byte("d")), ExpiresAt: &past}}, a).
		Want(t, 400, "expires_in_the_past")
	change(t, phone, []client.NewDeliveryToken{{Hash: a}}, a).Want(t, 400, "delivery_token_twice")
	change(t, phone, nil, b, b).Want(t, 400, "delivery_token_twice")
	change(t, phone, []client.NewDeliveryToken{{Hash: []byte("short")}}).Want(t, 400, "invalid_request")
	if got := list(t, phone); len(got) != 2 {
		t.Errorf("after refused changes: %v", got)
	}
	change(t, phone, nil, a, b).Want(t, 200, "")
	change(t, phone, nil).Want(t, 200, "")
	if got := list(t, phone); len(got) != 0 {
		t.Errorf("after the removal: %v", got)
	}
	if got := (e2e.Ask{Method: "GET", Path: "/v1/delivery-tokens", Token: bob.Token}).To(t, relay); got.Status != 403 {
		t.Errorf("without a device: %d", got.Status)
	}
}

func TestAUserHasAThousandDeliveryTokens(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	bob := relay.Register(t).NewDevice(t)
	tokens := func(from, n int) (add []client.NewDeliveryToken) {
		for i := range n {
			add = append(add, client.NewDeliveryToken{Hash: relaytest.HashOf([]byte(fmt.Sprint(from + i)))})
		}
		return add
	}
	for i := range 3 {
		change(t, bob, tokens(250*i, 250)).Want(t, 200, "")
	}
	change(t, bob, tokens(750, 251)).Want(t, 400, "invalid_request") // a request adds 250 at most
	// Two at once, of which there is room for one.
	var wg sync.WaitGroup
	statuses := make([]int, 2)
	for i := range 2 {
		wg.Go(func() { statuses[i] = change(t, bob, tokens(1000*(i+1), 200)).Status })
	}
	wg.Wait()
	if slices.Sort(statuses); statuses[0] != 200 || statuses[1] != 409 {
		t.Errorf("two at once: %v", statuses)
	}
	change(t, bob, tokens(750, 50)).Want(t, 200, "")
	change(t, bob, tokens(9000, 1)).Want(t, 409, "too_many_delivery_tokens")
	change(t, bob, tokens(9000, 1), relaytest.HashOf([]byte("0"))).Want(t, 200, "")
	if n := len(list(t, bob)); n != core.MaxDeliveryTokens {
		t.Errorf("%d tokens", n)
	}
	// Those that have expired make room.
	e2e.Change(t, e2e.Database(t, relay), "UPDATE delivery_tokens SET expires_at = now()")
	if n := len(list(t, bob)); n != 0 {
		t.Errorf("%d expired tokens are listed", n)
	}
	change(t, bob, tokens(20000, 250)).Want(t, 200, "")
}

// Somebody who knows another's token, as each contact does, cannot get in its way.
func TestATokenOfTwoUsersOpensBoth(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	mallory, bob := relay.Register(t).NewDevice(t), relay.Register(t).NewDevice(t)
	token := relaytest.DeliveryToken()
	for _, d := range []*relaytest.Device{mallory, bob} {
		change(t, d, []client.NewDeliveryToken{{Hash: relaytest.HashOf(token)}}).Want(t, 200, "")
	}
	mallory.RemoveDeliveryToken(t, token)
	if failed := relay.SendSealed(t, uuid.New(), relaytest.Sealed(bob.ID, "x", token)); len(failed) != 0 {
		t.Errorf("bob: %v", failed)
	}
	if failed := relay.SendSealed(t, uuid.New(), relaytest.Sealed(mallory.ID, "x", token)); len(failed) != 1 {
		t.Errorf("mallory: %v", failed)
	}
}

func TestATakeoverKeepsTokensAndADeletionDoesNot(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	bob := relay.Register(t)
	phone := bob.NewDevice(t)
	token := phone.NewDeliveryToken(t)
	e2e.WantUpload(t, phone, e2e.TakeoverBy(prekeytest.NewIdentity()), http.StatusOK, "")
	if failed := relay.SendSealed(t, uuid.New(), relaytest.Sealed(phone.ID, "x", token)); len(failed) != 0 {
		t.Errorf("after the takeover: %v", failed)
	}
	if got, err := bob.DeleteAccountWithResponse(t.Context(),
		client.DeleteAccountJSONRequestBody{Password: relaytest.Password}); err != nil || got.StatusCode() != 200 {
		t.Fatalf("deletion: %v %s", err, got.Body)
	}
	if n := e2e.Count(t, e2e.Database(t, relay), "SELECT count(*) FROM delivery_tokens"); n != 0 {
		t.Errorf("%d tokens outlive their user", n)
	}
}

// Locks are taken in the order of storage.Act: a change of tokens that waits for its user holds no
// session, which the one that it waits for may want next.
func TestAChangeOfTokensLocksTheUserFirst(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	bob := relay.Register(t).NewDevice(t)
	db := e2e.Database(t, relay)
	tx, err := db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "SELECT FROM users WHERE id = $1 FOR NO KEY UPDATE", bob.User.ID); err != nil {
		t.Fatal(err)
	}
	changed := make(chan int, 1)
	go func() {
		got, err := bob.ChangeDeliveryTokensWithResponse(t.Context(), client.DeliveryTokenChange{
			Add: []client.NewDeliveryToken{{Hash: relaytest.HashOf(nil)}}})
		if err != nil {
			t.Error(err)
		}
		changed <- got.StatusCode()
	}()
	testdb.AwaitWaiting(t, db, 1)
	if _, err := tx.Exec(t.Context(), "SELECT FROM sessions WHERE user_id = $1 FOR UPDATE NOWAIT", bob.User.ID); err != nil {
		t.Error(err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := <-changed; got != http.StatusOK {
		t.Errorf("the change: %d", got)
	}
}

func unnamedFetch(t *testing.T, relay *relaytest.Relay, path string, token []byte) e2e.Reply {
	t.Helper()
	return e2e.Ask{Method: "GET", Path: path, Header: map[string]string{
		"Delivery-Token": base64.RawURLEncoding.EncodeToString(token)}}.To(t, relay)
}

// A cache that keeps answers by their path must not give one to somebody without the token.
func TestAnAnswerToATokenIsNotKept(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	bob := relay.Register(t).NewDevice(t)
	for _, token := range [][]byte{bob.NewDeliveryToken(t), relaytest.DeliveryToken()} {
		for _, rest := range []string{"", "/devices"} {
			got := unnamedFetch(t, relay, "/v1/users/"+bob.User.ID.String()+rest, token)
			if kept := got.Header.Get("Cache-Control"); kept != "no-store" {
				t.Errorf("status %d of %q: Cache-Control %q", got.Status, rest, kept)
			}
		}
	}
}

func TestATokenOpensBundlesAndDeviceList(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	bob, carol := relay.Register(t).NewDevice(t), relay.Register(t).NewDevice(t)
	token, carols, removed := bob.NewDeliveryToken(t), carol.NewDeliveryToken(t), bob.NewDeliveryToken(t)
	bob.RemoveDeliveryToken(t, removed)
	for _, rest := range []string{"", "/devices"} {
		path := "/v1/users/" + bob.User.ID.String() + rest
		unnamedFetch(t, relay, path, token).Want(t, 200, "")
		var answer string
		for what, got := range map[string]e2e.Reply{
			"a wrong token":        unnamedFetch(t, relay, path, relaytest.DeliveryToken()),
			"another user's token": unnamedFetch(t, relay, path, carols),
			"a removed token":      unnamedFetch(t, relay, path, removed),
			"31 bytes":             unnamedFetch(t, relay, path, token[:31]),
			"an unknown user":      unnamedFetch(t, relay, "/v1/users/"+uuid.NewString()+rest, token),
		} {
			got.Want(t, 401, "unauthorized")
			if answer == "" {
				answer = string(got.Body)
			}
			if string(got.Body) != answer {
				t.Errorf("%s: %s, want %s", what, got.Body, answer)
			}
		}
		both := e2e.Ask{Method: "GET", Path: path, Token: carol.Token, Header: map[string]string{
			"Delivery-Token": base64.RawURLEncoding.EncodeToString(token)}}
		both.To(t, relay).Want(t, 400, "identified_request")
		padded := e2e.Ask{Method: "GET", Path: path, Header: map[string]string{
			"Delivery-Token": base64.URLEncoding.EncodeToString(token)}}
		padded.To(t, relay).Want(t, 401, "unauthorized")
	}
	// It opens nothing else.
	for _, path := range []string{"/v1/devices", "/v1/account", "/v1/delivery-tokens", "/v1/certificates/sender"} {
		unnamedFetch(t, relay, path, token).Want(t, 401, "unauthorized")
	}
}

// Changes of tokens beside uploads of keys, both of one session: each takes its locks in the order
// of the others.
func TestTokensAndKeysOfASessionChangeAtOnce(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	bob := relay.Register(t).NewDevice(t)
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for n := range 15 {
				change(t, bob, []client.NewDeliveryToken{{Hash: relaytest.HashOf([]byte{byte(i), byte(n)})}}).
					Want(t, 200, "")
			}
		})
		all.Go(func() {
			for n := range 15 {
				upload := client.KeyUpload{OneTimePreKeys: prekeytest.PreKeys(100+20*i+n, 1)}
				if got, err := bob.UploadKeysWithResponse(t.Context(), upload); err != nil || got.StatusCode() != 200 {
					t.Errorf("upload: %v %s", err, got.Body)
				}
			}
		})
	}
	all.Wait()
}
