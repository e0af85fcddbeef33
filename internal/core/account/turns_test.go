package account

import (
	"net/netip"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/kit/testdb"
	"github.com/obscura-relay/obscura/internal/kit/wait"
	"github.com/obscura-relay/obscura/internal/limit"
	"github.com/obscura-relay/obscura/internal/storage"
)

func TestMain(m *testing.M) { testdb.Main(m) }

// open makes a service on a database of its own, and a pool to look inside.
func open(t *testing.T) (*Service, *pgxpool.Pool) {
	t.Helper()
	url := testdb.NewURL(t)
	opened, err := storage.Open(t.Context(), url, storage.Options{MaxConns: 4})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(opened.Close)
	sql, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sql.Close)
	s := New(Config{DB: opened})
	if err := s.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s, sql
}

func execute(t *testing.T, sql *pgxpool.Pool, statement string, args ...any) {
	t.Helper()
	if _, err := sql.Exec(t.Context(), statement, args...); err != nil {
		t.Fatal(err)
	}
}

// TestATurnIsSpentByAWrongPasswordOnly takes a turn of a network and of a session, each of which
// waits a quarter of an hour for the next one.
func TestATurnIsSpentByAWrongPasswordOnly(t *testing.T) {
	t.Parallel()
	s, sql := open(t)
	hash, err := s.hasher.hash(t.Context(), "the right password")
	if err != nil {
		t.Fatal(err)
	}
	name := s.guesses.nameHash("alice")
	for what, g := range map[string]guess{
		"a network": s.guesses.stranger(name, netip.MustParseAddr("192.0.2.1")),
		"a session": s.guesses.session(name, core.SessionID{1}),
	} {
		execute(t, sql, `INSERT INTO wrong_passwords (name, slot, failures) VALUES ($1, $2, 100)`, name[:], g.counted)
		if g.turn != g.counted {
			execute(t, sql, `INSERT INTO wrong_passwords (name, slot) VALUES ($1, $2)`, name[:], g.turn)
		}
		try := func(password string) error { _, err := s.tryPassword(t.Context(), g, password, hash); return err }
		places := s.hasher.pool
		s.hasher.pool = limit.NewPool(0, 0)
		for range 2 {
			if err := try("the right password"); core.KindOf(err) != core.Unavailable {
				t.Fatalf("%s: without a place for the hashing %v", what, err)
			}
		}
		s.hasher.pool = places
		for range 2 { // what follows may have failed
			if err := try("the right password"); err != nil {
				t.Errorf("%s: its turn was spent by no wrong password: %v", what, err)
			}
		}
		if err := try("a wrong password"); core.KindOf(err) != core.Unauthorized {
			t.Errorf("%s: a wrong password: %v", what, err)
		}
		if err := try("the right password"); core.KindOf(err) != core.Limited {
			t.Errorf("%s: after a wrong password: %v", what, err)
		}
	}
}

// TestASweepPassesOverWrongPasswordsThatAreBeingForgotten has a log-in forget the rows of a name in
// the order of slots, while another holds the one in the middle. They lie in the other order, in
// which the sweep comes by them.
func TestASweepPassesOverWrongPasswordsThatAreBeingForgotten(t *testing.T) {
	t.Parallel()
	for what, sweep := range map[string]func(conn *storage.Tx) error{
		"of old ones":   func(conn *storage.Tx) error { return storage.Queries.DeleteOldWrongPasswords(t.Context(), conn) },
		"of the fewest": func(conn *storage.Tx) error { return storage.Queries.DeleteFewestWrongPasswords(t.Context(), conn, 0) },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s, sql := open(t)
			name := s.guesses.nameHash("alice")
			execute(t, sql, `INSERT INTO wrong_passwords (name, slot, failures, last_at)
				SELECT decode(md5(n::text), 'hex'), -1, 1000, now() FROM generate_series(1, 10000) n`)
			execute(t, sql, `INSERT INTO wrong_passwords (name, slot, failures, last_at)
				SELECT $1, 4 - n, n, now() - interval '2 days' FROM generate_series(1, 3) n`, name[:])
			execute(t, sql, `ANALYZE wrong_passwords`)

			holder, err := sql.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := holder.Exec(t.Context(), `SELECT FROM wrong_passwords WHERE name = $1 AND slot = 2 FOR UPDATE`,
				name[:]); err != nil {
				t.Fatal(err)
			}
			forgotten, swept := make(chan error, 1), make(chan error, 1)
			go func() {
				forgotten <- s.cfg.DB.InTx(t.Context(), func(tx *storage.Tx) error {
					return forgetWrong(t.Context(), tx, guess{name: name, counted: strangerSlot})
				})
			}()
			testdb.AwaitWaiting(t, sql, 1)
			go func() { swept <- s.cfg.DB.Do(t.Context(), sweep) }()
			wait.Eventually(t, "the sweep has ended, or waits", func() bool {
				return len(swept) > 0 || len(testdb.Waiting(t, sql)) == 2
			})
			if err := holder.Rollback(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := <-forgotten; err != nil {
				t.Errorf("the log-in: %v", err)
			}
			if err := <-swept; err != nil {
				t.Errorf("the sweep: %v", err)
			}
		})
	}
}
