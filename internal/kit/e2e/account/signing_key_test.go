package account_test

import (
	"encoding/base64"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/obscura-relay/obscura/internal/app"
	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
	"github.com/obscura-relay/obscura/internal/kit/testdb"
	"github.com/obscura-relay/obscura/internal/kit/wait"
	"github.com/obscura-relay/obscura/internal/storage"
)

func kid(t *testing.T, token string) string {
	t.Helper()
	header, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[0])
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(header), `"kid":"`)
	id, _, _ := strings.Cut(rest, `"`)
	return id
}

func TestNodesThatStartAtOnceMakeOneSigningKey(t *testing.T) {
	t.Parallel()
	url := testdb.NewURL(t)
	nodes := make([]*relaytest.Relay, 4)
	var wg sync.WaitGroup
	for i := range nodes {
		wg.Go(func() { nodes[i] = relaytest.StartOn(t, url) })
	}
	wg.Wait()
	var keys int
	if err := e2e.Database(t, nodes[0]).QueryRow(t.Context(),
		"SELECT count(*) FROM signing_keys").Scan(&keys); err != nil || keys != 1 {
		t.Errorf("%d keys, %v", keys, err)
	}
	for _, node := range nodes {
		user := node.Register(t)
		for _, other := range nodes {
			if !e2e.Works(t, other, user.Token) {
				t.Error("a token of one node does not work on another")
			}
		}
	}
}

func TestARotatedKeyLogsNobodyOut(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	user := relay.Register(t)
	db := e2e.Database(t, relay)
	e2e.Execute(t, db, "UPDATE signing_keys SET created_at = now() - interval '30 days 1 minute'")
	next := relaytest.StartOn(t, relay.DatabaseURL) // it rotates
	session := e2e.LogIn(user.Name, relaytest.Password).To(t, next).Want(t, 200, "")
	if kid(t, session.Member(t, "token")) == kid(t, user.Token) {
		t.Fatal("the key was not rotated")
	}
	if !e2e.Works(t, next, user.Token) {
		t.Error("a token of the old key does not work on the node that rotated")
	}
	// The older node has never heard of the new key, and fetches it; at most once a second, so a
	// made-up key id just before is the worst case.
	e2e.Ask{Method: "GET", Path: "/v1/account", Token: strings.Replace(user.Token, "eyJ", "eyI", 1)}.To(t,
		relay).Want(t, 401, "unauthorized")
	wait.Eventually(t, "the older node fetches the new key", func() bool {
		return e2e.Works(t, relay, session.Member(t, "token"))
	})
	if !e2e.Works(t, relay, user.Token) {
		t.Error("a token of the old key does not work on the older node")
	}
	e2e.Refresh(user.Refresh).To(t, next).Want(t, 200, "")

	// A key goes when its last token must have expired.
	e2e.Execute(t, db, "UPDATE signing_keys SET created_at = created_at - interval '31 days'")
	relaytest.StartOn(t, relay.DatabaseURL)
	var keys int
	if err := db.QueryRow(t.Context(), "SELECT count(*) FROM signing_keys").Scan(&keys); err != nil || keys != 1 {
		t.Errorf("%d keys are left, %v", keys, err)
	}
}

func TestMadeUpKeyIDsCostOneLookAtTheDatabase(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t, func(c *app.Config) { c.DatabaseConnections = 4 })
	user := relay.Register(t)
	db := e2e.Database(t, relay)
	// Whoever looks for keys waits for this lock; requests must find connections all the same.
	tx, err := db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "SELECT pg_advisory_xact_lock($1)", storage.LockSigningKeys); err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(user.Token, ".")
	stale := make(chan struct{})
	var wg sync.WaitGroup
	for i := range 16 {
		header := base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, `{"alg":"HS256","typ":"JWT","kid":"%d"}`, i))
		wg.Go(func() {
			<-stale
			got := e2e.Ask{Method: "GET", Path: "/v1/account", Token: header + "." + rest}.To(t, relay)
			if got.Status != 401 && got.Status != 503 { // 503 when the lock takes too long to come
				t.Errorf("status %d", got.Status)
			}
		})
	}
	waiting := func() (n int) {
		err := db.QueryRow(t.Context(),
			"SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())").Scan(&n)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	// Keys that were read within the last second are taken as they are; then somebody looks.
	wait.Eventually(t, "the keys are a second old", func() bool {
		wg.Go(func() {
			e2e.Ask{Method: "GET", Path: "/v1/account", Token: "eyJhbGciOiJIUzI1NiIsImtpZCI6IngifQ." + rest}.To(t,
				relay)
		})
		return waiting() > 0
	})
	close(stale)
	for range 20 {
		e2e.Ask{Method: "GET", Path: "/v1/devices", Token: user.Token}.To(t, relay).Want(t, 200, "")
		if n := waiting(); n > 1 {
			t.Fatalf("%d connections wait", n)
		}
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
}

func TestAnOperatorsKeyIsUsedAloneAndKeptOutOfTheDatabase(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t, withOperatorKey)
	second := relaytest.StartOn(t, relay.DatabaseURL, withOperatorKey)
	user := relay.Register(t)
	if kid(t, user.Token) != "operator" || !e2e.Works(t, second, user.Token) {
		t.Error("the nodes do not share the operator's key")
	}
	var keys int
	if err := e2e.Database(t, relay).QueryRow(t.Context(),
		"SELECT count(*) FROM signing_keys").Scan(&keys); err != nil || keys != 0 {
		t.Errorf("%d keys in the database, %v", keys, err)
	}
	if strings.Contains(relay.Log.String(), base64.StdEncoding.EncodeToString(operatorKey)) {
		t.Error("the log holds the key")
	}
}
