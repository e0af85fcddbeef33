package account_test

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

func TestADeletedAccountIsGoneFromEveryTable(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	user, other := relay.Register(t), relay.Register(t)
	device, second := user.NewDevice(t), user.NewDevice(t)
	friend := other.NewDevice(t)
	socket := device.Connect(t)
	socket.Drain()
	if _, err := second.CreateGatewayTicketWithResponse(t.Context()); err != nil {
		t.Fatal(err)
	}
	friend.Send(t, nil, relaytest.To(device.ID, "pending"), relaytest.To(second.ID, "pending"))
	device.Send(t, nil, relaytest.To(friend.ID, "stays"))

	deletion := func(password string) e2e.Ask {
		return e2e.Ask{Method: "DELETE", Path: "/v1/account", Token: device.Token,
			Body: e2e.Object("password", password)}
	}
	deletion("a wrong password").To(t, relay).Want(t, 401, "wrong_credentials")
	e2e.Ask{Method: "DELETE", Path: "/v1/account", Token: device.Token, Body: `{}`}.To(t, relay).Want(t, 400,
		"invalid_request")
	e2e.Ask{Method: "DELETE", Path: "/v1/account", Body: e2e.Object("password", relaytest.Password)}.To(t,
		relay).Want(t, 401, "unauthorized")
	if !e2e.Works(t, relay, user.Token) {
		t.Fatal("a wrong password ended the session")
	}
	got := deletion(relaytest.Password).To(t, relay).Want(t, 200, "")
	if len(got.Body) != 0 {
		t.Errorf("a body: %s", got.Body)
	}
	if code := socket.CloseCode(); code != 4401 {
		t.Errorf("the socket closed with %d", code)
	}
	for _, token := range []string{user.Token, device.Token, second.Token} {
		if e2e.Works(t, relay, token) {
			t.Error("a token still works")
		}
	}
	for _, refresh := range []string{user.Refresh, device.Refresh, second.Refresh} {
		e2e.Ask{Method: "POST", Path: "/v1/sessions/refresh", Body: e2e.Object("refreshToken", refresh)}.To(t,
			relay).Want(t, 401, "invalid_refresh_token")
	}
	e2e.LogIn(user.Name, relaytest.Password).To(t, relay).Want(t, 401, "wrong_credentials")
	e2e.Ask{Method: "GET", Path: "/v1/users/" + user.ID.String(), Token: friend.Token}.To(t, relay).Want(t, 404,
		"user_not_found")
	if failed := friend.Send(t, nil, relaytest.To(device.ID, "too late")); len(failed) != 1 {
		t.Error("its mailbox takes mail")
	}
	if backlog, _, _ := friend.Connect(t).Drain(); len(backlog) != 1 || string(backlog[0].GetMessage()) != "stays" {
		t.Errorf("what it sent to others is gone: %v", backlog)
	}

	// Whatever table there is, now or later: no row names the user or a device, but for the mail of
	// others and the receipts of its sending, which expire.
	db := e2e.Database(t, relay)
	rows, err := db.Query(t.Context(), `SELECT c.table_name FROM information_schema.tables c
		WHERE c.table_schema = 'public' AND c.table_type = 'BASE TABLE' AND c.table_name <> 'goose_db_version'`)
	if err != nil {
		t.Fatal(err)
	}
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(tables) < 10 {
		t.Fatalf("tables %v, %v", tables, err)
	}
	for _, table := range tables {
		for _, id := range []string{user.ID.String(), device.ID.String(), second.ID.String(), user.Name} {
			var n int
			err := db.QueryRow(t.Context(),
				"SELECT count(*) FROM "+pgx.Identifier{table}.Sanitize()+" r WHERE r::text LIKE '%' || $1 || '%'",
				id).Scan(&n)
			if err != nil {
				t.Fatal(err)
			}
			if table == "messages" { // the one to the friend
				n--
				if id == second.ID.String() || id == user.Name {
					n++
				}
			}
			if n != 0 {
				t.Errorf("%s keeps %d rows about it (%s)", table, n, id)
			}
		}
	}
	e2e.Register(user.Name, relaytest.Password).To(t, relay).Want(t, 201, "") // the name is free again
}
