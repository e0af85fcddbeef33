package queries_test

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// cluster asks for a distributed database that somebody brings: see make test-cluster. Its URL may
// hold a password, so that it is in the environment.
var cluster = flag.Bool("cluster", false, "plan each statement on the distributed database that DATABASE_URL names")

var tasks = regexp.MustCompile(`Task Count: (\d+)`)

// Nothing is executed. How a statement is planned depends on how it is prepared; each way must send
// it to one server. This has never been run on Citus: there is none where it was written.
func TestEachStatementIsOneTaskOfACluster(t *testing.T) {
	if !*cluster {
		return
	}
	conn, err := pgx.Connect(t.Context(), os.Getenv("DATABASE_URL"))
	if err != nil {
		t.Fatal("the cluster does not answer")
	}
	defer func() { _ = conn.Close(t.Context()) }()
	for _, mode := range []string{"auto", "force_custom_plan", "force_generic_plan"} {
		looked := 0
		for _, s := range statements(t) {
			if !s.ofBucket {
				continue
			}
			counts, err := taskCounts(t, conn, mode, s)
			if err != nil {
				t.Errorf("%s, %s: %v", mode, s.name, err)
			}
			for _, n := range counts {
				if n != "1" {
					t.Errorf("%s, %s: %s tasks", mode, s.name, n)
				}
			}
			looked += len(counts)
		}
		if looked < 60 {
			t.Errorf("%s: %d tasks were found: are the tables distributed?", mode, looked)
		}
	}
}

// taskCounts are those of the parts of a statement's plan, for bucket 1.
func taskCounts(t *testing.T, conn *pgx.Conn, mode string, s statement) (counts []string, err error) {
	t.Helper()
	tx, err := conn.Begin(t.Context())
	if err != nil {
		return nil, err
	}
	defer func() { _ = tx.Rollback(t.Context()) }()
	if _, err := tx.Exec(t.Context(), "SET LOCAL plan_cache_mode = "+mode+"; DEALLOCATE ALL; PREPARE s AS "+s.sql,
		pgx.QueryExecModeSimpleProtocol); err != nil {
		return nil, err
	}
	var types []string
	if err := tx.QueryRow(t.Context(), "SELECT parameter_types::text[] FROM pg_prepared_statements WHERE name = 's'",
		pgx.QueryExecModeExec).Scan(&types); err != nil {
		return nil, err
	}
	args := make([]string, len(types))
	for i, of := range types {
		element, array := strings.CutSuffix(strings.Trim(of, `"`), "[]")
		args[i] = values[element]
		if array {
			args[i] = "ARRAY[" + args[i] + "]::" + of
		}
	}
	rows, err := tx.Query(t.Context(), fmt.Sprintf("EXPLAIN EXECUTE s(%s)", strings.Join(args, ", ")),
		pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		return nil, err
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	for _, found := range tasks.FindAllStringSubmatch(strings.Join(lines, "\n"), -1) {
		counts = append(counts, found[1])
	}
	return counts, err
}
