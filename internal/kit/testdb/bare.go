package testdb

import (
	"context"
	"net/url"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Bare returns the connection string of a fresh database without migrations, made with the given
// options of CREATE DATABASE, such as "ENCODING 'SQL_ASCII'". The test's end drops it.
func Bare(t testing.TB, options string) string {
	t.Helper()
	server, err := serverURL()
	if err != nil {
		t.Fatal(err)
	}
	return BareOn(t, server, options)
}

// BareOn is Bare on the server of a connection string.
func BareOn(t testing.TB, server, options string) string {
	t.Helper()
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal("testdb: the URL of the server does not parse")
	}
	name := "bare_" + uuid.NewString()
	quoted := pgx.Identifier{name}.Sanitize()
	Exec(t, server, "CREATE DATABASE "+quoted+" TEMPLATE template0 "+options)
	t.Cleanup(func() { Exec(t, server, "DROP DATABASE "+quoted+" WITH (FORCE)") })
	u.Path = "/" + name
	return u.String()
}

// Exec runs statements on a connection of its own.
func Exec(t testing.TB, database, sql string) {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), database)
	if err == nil {
		_, err = conn.Exec(context.Background(), sql)
		_ = conn.Close(context.Background()) // what it has done is done
	}
	if err != nil {
		t.Fatal(err)
	}
}
