package account_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/obscura-relay/obscura/internal/admin"
	"github.com/obscura-relay/obscura/internal/app"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/core/account"
	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
	"github.com/obscura-relay/obscura/internal/storage"
)

// registering is a relay at which these people may register.
func registering(who core.Registration) func(*app.Config) {
	return func(cfg *app.Config) { cfg.Registration = who }
}

// invite makes an invitation as an operator does.
func invite(t *testing.T, relay *relaytest.Relay, uses admin.Uses) string {
	t.Helper()
	return e2e.Administer(t, relay, admin.CreateInvitation{Uses: uses, Expires: admin.Lifetime(time.Hour)})
}

// invited registers with an invitation.
func invited(name, invitation string) e2e.Ask {
	return e2e.Ask{Method: "POST", Path: "/v1/users",
		Body: e2e.Object("username", name, "password", relaytest.Password, "invitation", invitation)}
}

func count(t *testing.T, relay *relaytest.Relay, query string) (n int) {
	t.Helper()
	if err := e2e.Database(t, relay).QueryRow(t.Context(), query).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestRegistrationIsForTheOperatorToSay(t *testing.T) {
	t.Parallel()
	open := relaytest.Start(t)
	invitation := invite(t, open, 1)
	e2e.Register("first_one", relaytest.Password).To(t, open).Want(t, 201, "")
	invited("second_one", invitation).To(t, open).Want(t, 201, "")
	invited("third_one", "made up").To(t, open).Want(t, 201, "")
	if n := count(t, open, `SELECT sum(uses_left) FROM invitations`); n != 1 {
		t.Errorf("an open relay has left %d uses of 1", n)
	}
	for who, code := range map[core.Registration]string{
		core.RegistrationInvite: "invitation_required", core.RegistrationClosed: "registration_closed",
	} {
		relay := relaytest.StartOn(t, open.DatabaseURL, registering(who))
		if got := (e2e.Ask{Method: "GET", Path: "/v1/info"}).To(t, relay).Want(t, 200, ""); got.Member(t,
			"registration") != string(who) {
			t.Errorf("%s: %s", who, got.Body)
		}
		e2e.Register("another_one", relaytest.Password).To(t, relay).Want(t, 403, code)
		e2e.LogIn("first_one", relaytest.Password).To(t, relay).Want(t, 200, "")
		if who == core.RegistrationClosed {
			invited("another_one", invitation).To(t, relay).Want(t, 403, code)
		}
	}
}

func TestAnInvitationIsGoodForItsUses(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t, registering(core.RegistrationInvite))
	required := func(name, invitation string) {
		t.Helper()
		invited(name, invitation).To(t, relay).Want(t, 403, "invitation_required")
	}
	null := `{"username": "nobody", "password": "` + relaytest.Password + `", "invitation": null}`
	e2e.Ask{Method: "POST", Path: "/v1/users", Body: null}.To(t, relay).Want(t, 403, "invitation_required")
	required("nobody", "")
	required("nobody", "made up")
	required("nobody", strings.Repeat("A", 43))
	invited("nobody", strings.Repeat("A", 201)).To(t, relay).Want(t, 400, "invalid_request")

	two := invite(t, relay, 2)
	required("nobody", two[:42]+"=")
	invited("alice", two).To(t, relay).Want(t, 201, "")
	invited("Alice", two).To(t, relay).Want(t, 409, "username_taken")
	invited("no", two).To(t, relay).Want(t, 400, "invalid_request")
	if n := count(t, relay, `SELECT uses_left FROM invitations`); n != 1 {
		t.Errorf("a taken name and a bad one have left %d uses of 1", n)
	}
	invited("bob", two).To(t, relay).Want(t, 201, "")
	required("carol", two)
	if n := count(t, relay, `SELECT count(*) FROM invitations`); n != 0 {
		t.Errorf("%d invitations are left after the last use", n)
	}
	if n := count(t, relay, `SELECT count(*) FROM users`); n != 2 {
		t.Errorf("%d users, two were invited", n)
	}
	if strings.Contains(relay.Log.String(), two) {
		t.Error("the log has an invitation")
	}
}

func TestAnInvitationThatExpiredOrWasRevokedIsNone(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t, registering(core.RegistrationInvite))
	expired := invite(t, relay, 5)
	if _, err := e2e.Database(t, relay).Exec(t.Context(),
		`UPDATE invitations SET expires_at = now() - interval '1 second'`); err != nil {
		t.Fatal(err)
	}
	invited("nobody", expired).To(t, relay).Want(t, 403, "invitation_required")
	if out := e2e.Administer(t, relay, admin.ListInvitations{}); strings.Contains(out, "\n") {
		t.Errorf("an expired one is listed: %s", out)
	}

	revoked := invite(t, relay, 5)
	invited("alice", revoked).To(t, relay).Want(t, 201, "")
	var hash string
	if err := e2e.Database(t, relay).QueryRow(t.Context(),
		`SELECT encode(hash, 'hex') FROM invitations WHERE expires_at > now()`).Scan(&hash); err != nil {
		t.Fatal(err)
	}
	e2e.Administer(t, relay, admin.RevokeInvitation{Hash: hash[:8]})
	invited("bob", revoked).To(t, relay).Want(t, 403, "invitation_required")
}

func TestTheLastUseIsForOneOfManyAtOnce(t *testing.T) {
	t.Parallel()
	one := relaytest.Start(t, registering(core.RegistrationInvite))
	nodes := []*relaytest.Relay{one, relaytest.StartOn(t, one.DatabaseURL, registering(core.RegistrationInvite))}
	invitation := invite(t, one, 3)
	const many = 10
	replies := make(chan e2e.Reply)
	for i := range many {
		go func() { replies <- invited(fmt.Sprintf("guest_%d", i), invitation).To(t, nodes[i%2]) }()
	}
	created := 0
	for range many {
		if got := <-replies; got.Status == 201 {
			created++
		} else {
			got.Want(t, 403, "invitation_required")
		}
	}
	if n := count(t, one, `SELECT count(*) FROM users`); created != 3 || n != 3 {
		t.Errorf("%d were told that they are users, %d are; the invitation had 3 uses", created, n)
	}
	if n := count(t, one, `SELECT count(*) FROM invitations`); n != 0 {
		t.Errorf("%d invitations are left", n)
	}
}

func TestExpiredInvitationsAreSwept(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	invite(t, relay, 1)
	if _, err := e2e.Database(t, relay).Exec(t.Context(),
		`UPDATE invitations SET expires_at = now() - interval '1 second'`); err != nil {
		t.Fatal(err)
	}
	invite(t, relay, 1)
	db, err := storage.Open(t.Context(), relay.DatabaseURL, storage.Options{MaxConns: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := account.New(account.Config{DB: db}).Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := count(t, relay, `SELECT count(*) FROM invitations`); n != 1 {
		t.Errorf("%d invitations are left, one has not expired", n)
	}
}
