package keys_test

import (
	"os"
	"strings"
	"testing"

	"github.com/google/uuid"
)

// handOutSQL is the statement that hands bundles out, as queries/keys.sql has it.
func handOutSQL(t testing.TB) string {
	t.Helper()
	all, err := os.ReadFile("../../../queries/keys.sql")
	if err != nil {
		t.Fatal(err)
	}
	_, statement, found := strings.Cut(string(all), "-- name: TakeBundles :many\n")
	statement, _, ended := strings.Cut(statement, ";\n")
	if !found || !ended {
		t.Fatal("queries/keys.sql has no TakeBundles")
	}
	return strings.NewReplacer("@user_ids", "$1", "@device_ids", "$2", "@counts", "$3", "@bucket", "0").Replace(statement)
}

// The cost of a hand-out must depend neither on how many keys others have nor on how many were
// taken before: scans start at the floor, and deletions go straight to the rows.
func TestAHandOutStartsAtTheFloorAndScansNoTable(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, mode string
	}{
		{"planned for its values", "force_custom_plan"},
		{"planned once for all", "force_generic_plan"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			p := b.device(t)
			b.stock(t, 1, 20_000, 33, p.Device)
			b.exec(t, "ANALYZE")
			conn, err := b.sql.Acquire(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Release()
			if _, err := conn.Exec(t.Context(), "SELECT set_config('plan_cache_mode', $1, false)",
				tt.mode); err != nil {
				t.Fatal(err)
			}
			rows, err := conn.Query(t.Context(), "EXPLAIN "+handOutSQL(t), []uuid.UUID{p.User},
				make([]uuid.UUID, 1), []int32{64})
			if err != nil {
				t.Fatal(err)
			}
			var lines []string
			for rows.Next() {
				var line string
				if err := rows.Scan(&line); err != nil {
					t.Fatal(err)
				}
				lines = append(lines, line)
			}
			if err := rows.Err(); err != nil {
				t.Fatal(err)
			}
			plan := strings.Join(lines, "\n")
			for _, want := range []string{"key_id >= stock_1.ec_floor", "key_id >= stock_2.kyber_floor",
				"Tid Scan on ec_pre_keys", "Tid Scan on kyber_pre_keys"} {
				if !strings.Contains(plan, want) {
					t.Errorf("the plan lacks %q", want)
				}
			}
			for _, line := range lines {
				if strings.Contains(line, "Seq Scan on ec_pre_keys") ||
					strings.Contains(line, "Seq Scan on kyber_pre_keys") {
					t.Errorf("the plan scans a whole table: %s", strings.TrimSpace(line))
				}
			}
			if t.Failed() {
				t.Log(plan)
			}
		})
	}
}
