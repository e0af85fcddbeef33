package push

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/kit/testdb"
)

// Whoever changes several rows waits for the first device without holding the second: two who do so
// in opposite orders would stop each other.
func TestRowsAreLockedInTheOrderOfDevices(t *testing.T) {
	t.Parallel()
	registered := time.Now().UTC().Truncate(time.Second)
	at := func(id uuid.UUID, outcome Outcome) result {
		return result{lease: lease{id, 1}, Result: Result{Outcome: outcome}, kind: FCM, registeredAt: registered,
			seq: 1}
	}
	for name, c := range map[string]struct {
		table  string
		change func(s *Service, first, second core.DeviceID) error
	}{
		"cancelled": {"push_wakeups", func(s *Service, first, second core.DeviceID) error {
			return s.cancel(context.Background(), s.of(first), []core.DeviceID{first, second})
		}},
		"settled": {"push_wakeups", func(s *Service, first, second core.DeviceID) error {
			_, err := s.settle(context.Background(), s.of(first), []result{at(second, 0), at(first, Failed)})
			return err
		}},
		"settled, the tokens": {"push_tokens", func(s *Service, first, second core.DeviceID) error {
			_, err := s.settle(context.Background(), s.of(first), []result{at(second, Delivered), at(first, 0)})
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, _, inside := service(t, Times{})
			populate(t, inside, len(s.buckets)+1, 1)
			ids := together(s, devicesIn(t, inside))
			for _, id := range []uuid.UUID{ids[1], ids[0]} { // the second comes first on disk
				if _, err := inside.Exec(t.Context(),
					"INSERT INTO push_wakeups (device_id, kind, seq, due_at, attempts) VALUES ($1, 1, 1, now(), 1)",
					id); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := inside.Exec(t.Context(), "UPDATE push_tokens SET registered_at = $1", registered); err != nil {
				t.Fatal(err)
			}
			tx, err := inside.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = tx.Rollback(context.Background()) }()
			// As the deletion of the first device does.
			for _, table := range []string{"push_tokens", "push_wakeups"} {
				if _, err := tx.Exec(t.Context(), "SELECT FROM "+table+" WHERE device_id = $1 FOR UPDATE",
					ids[0]); err != nil {
					t.Fatal(err)
				}
			}
			changed := make(chan error, 1)
			go func() { changed <- c.change(s, ids[0], ids[1]) }()
			testdb.AwaitWaiting(t, inside, 1)
			if _, err := tx.Exec(t.Context(), "SELECT FROM "+c.table+" WHERE device_id = $1 FOR UPDATE NOWAIT",
				ids[1]); err != nil {
				t.Errorf("it holds the second: %v", err)
			}
			if err := tx.Rollback(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := <-changed; err != nil {
				t.Error(err)
			}
		})
	}
}

// together are two devices of one bucket, which there must be, in order.
func together(s *Service, ids []core.DeviceID) []core.DeviceID {
	before := map[*bucket]core.DeviceID{}
	for _, id := range ids {
		if first, ok := before[s.of(id)]; ok {
			return []core.DeviceID{first, id}
		}
		before[s.of(id)] = id
	}
	return nil
}

// devicesIn lists the devices in order.
func devicesIn(t testing.TB, inside *pgxpool.Pool) (ids []uuid.UUID) {
	t.Helper()
	rows, err := inside.Query(t.Context(), "SELECT device_id FROM push_tokens")
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		var id uuid.UUID
		if err := rows.Scan(&id); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b uuid.UUID) int { return slices.Compare(a[:], b[:]) })
	return ids
}
