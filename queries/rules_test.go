package queries_test

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	pgquery "github.com/wasilibs/go-pgquery"
)

// What a statement may break.
const (
	whole        = "it is no SELECT, INSERT, UPDATE or DELETE: it concerns all buckets"
	noBucket     = "a reference to a table has no condition alias.bucket = @bucket"
	noTable      = "an INSERT that selects from tables takes its bucket from another place than one of them"
	noInserted   = "an INSERT has another bucket than @bucket"
	moved        = "it sets the bucket of a row that is there"
	target       = "ON CONFLICT names columns: say ON CONFLICT DO NOTHING or ON CONSTRAINT"
	changingWith = "a WITH changes data before an INSERT"
	atRandom     = "it is random"
	timeInCase   = "a change asks for the time in CASE or coalesce"
	timeOfColumn = "a change adds an interval to a column, or a column to the time"
	joined       = "it joins a table of accounts"
	emptyExists  = "EXISTS selects nothing: say SELECT 1"
)

// references are the tables of a FROM, by what they are called; those of sub-selects are not among
// them. Those for which the conditions of joins say which bucket are added to found.
func references(from any, tables map[string]string, found map[string]bool) {
	switch from := from.(type) {
	case []any:
		for _, one := range from {
			references(one, tables, found)
		}
	case node:
		if table, ok := from["RangeVar"].(node); ok {
			tables[called(table)], _ = table["relname"].(string)
		}
		if join, ok := from["JoinExpr"].(node); ok {
			right, said := map[string]string{}, map[string]bool{}
			references(join["larg"], tables, found)
			references(join["rarg"], right, found)
			bound(join["quals"], said)
			for alias := range said {
				_, isRight := right[alias] // an outer join keeps what its condition refuses
				if join["jointype"] == "JOIN_INNER" || join["jointype"] == "JOIN_LEFT" && isRight {
					found[alias] = true
				}
			}
			maps.Copy(tables, right)
		}
	}
}

func called(table node) string {
	if alias, ok := table["alias"].(node); ok {
		return alias["aliasname"].(string)
	}
	name, _ := table["relname"].(string)
	return name
}

// bound are the references for which conditions, joined by AND, say which bucket.
func bound(conditions any, found map[string]bool) {
	switch c := conditions.(type) {
	case []any:
		for _, one := range c {
			bound(one, found)
		}
	case node:
		if and, ok := c["BoolExpr"].(node); ok && and["boolop"] == "AND_EXPR" {
			bound(and["args"], found)
		}
		if equal, ok := c["A_Expr"].(node); ok && words(equal["name"]) == "=" && isBucketParameter(equal["rexpr"]) {
			if alias, ok := strings.CutSuffix(words(equal["lexpr"]), ".bucket"); ok {
				found[alias] = true
			}
		}
	}
}

// judge returns which rules a statement breaks, each once.
func judge(t *testing.T, sql string) []string {
	t.Helper()
	text, err := pgquery.ParseToJSON(sql)
	var tree struct{ Stmts []struct{ Stmt node } }
	if err == nil {
		err = json.Unmarshal([]byte(text), &tree)
	}
	if err != nil || len(tree.Stmts) != 1 {
		t.Fatalf("%d statements, %v: %s", len(tree.Stmts), err, sql)
	}
	broken := map[string]bool{}
	with := map[string]bool{}
	tables := map[string]bool{}
	walk(tree.Stmts[0].Stmt, func(kind string, n node) bool {
		if name, ok := n["ctename"].(string); ok && kind == "CommonTableExpr" {
			with[name] = true
		}
		if name, ok := n["relname"].(string); ok {
			tables[name] = true
		}
		return kind != "LockingClause" // it names references
	})
	ours := func(name string) bool { return ofDevices[name] }
	if !slices.ContainsFunc(slices.Collect(maps.Keys(tables)), ours) {
		return nil
	}
	for name := range tables {
		broken[joined] = broken[joined] || !ours(name) && !with[name]
	}
	broken[atRandom] = has(tree.Stmts[0].Stmt, isRandom, "FuncCall")
	walk(tree.Stmts[0].Stmt, func(kind string, n node) bool {
		switch kind {
		case "SelectStmt", "selectStmt", "larg", "rarg": // the last two are the sides of a UNION or a join
			checkReferences(n, broken)
		case "DeleteStmt", "UpdateStmt":
			checkReferences(n, broken)
			checkChange(n, broken)
		case "InsertStmt":
			checkInsert(n, broken)
		case "onConflictClause":
			checkChange(n, broken)
		case "SubLink":
			if n["subLinkType"] == "EXISTS_SUBLINK" {
				sub, _ := n["subselect"].(node)["SelectStmt"].(node)
				broken[emptyExists] = broken[emptyExists] || slices.ContainsFunc(sides(sub), selectsNothing)
			}
		default:
			broken[whole] = broken[whole] || strings.HasSuffix(kind, "Stmt")
		}
		return true
	})
	maps.DeleteFunc(broken, func(_ string, is bool) bool { return !is })
	return slices.Sorted(maps.Keys(broken))
}

// sides are a SELECT itself, or those that a UNION and the like combines.
func sides(n node) []node {
	left, ok := n["larg"].(node)
	if !ok {
		return []node{n}
	}
	return append(sides(left), sides(n["rarg"].(node))...)
}

func selectsNothing(n node) bool { return n["targetList"] == nil && n["valuesLists"] == nil }

func checkReferences(n node, broken map[string]bool) {
	tables, found := map[string]string{}, map[string]bool{}
	bound(n["whereClause"], found)
	for _, from := range []any{n["fromClause"], n["usingClause"]} {
		references(from, tables, found)
	}
	if changed, ok := n["relation"].(node); ok {
		tables[called(changed)], _ = changed["relname"].(string)
	}
	for alias, table := range tables {
		broken[noBucket] = broken[noBucket] || ofDevices[table] && !found[alias]
	}
}

func checkInsert(n node, broken map[string]bool) {
	table, _ := n["relation"].(node)["relname"].(string)
	if !ofDevices[table] {
		return
	}
	broken[changingWith] = broken[changingWith] ||
		has(n["withClause"], anyNode, "InsertStmt", "UpdateStmt", "DeleteStmt")
	if conflict, ok := n["onConflictClause"].(node); ok {
		infer, _ := conflict["infer"].(node)
		broken[target] = broken[target] || infer["indexElems"] != nil
	}
	columns, _ := n["cols"].([]any)
	at := slices.IndexFunc(columns, func(c any) bool { return c.(node)["ResTarget"].(node)["name"] == "bucket" })
	selected, ok := n["selectStmt"].(node)
	if at < 0 || !ok { // DEFAULT VALUES
		broken[noInserted] = true
		return
	}
	for _, side := range sides(selected["SelectStmt"].(node)) {
		tables := map[string]string{}
		references(side["fromClause"], tables, map[string]bool{})
		rows, _ := side["valuesLists"].([]any)
		for _, row := range rows {
			broken[noInserted] = broken[noInserted] || !isBucketParameter(row.(node)["List"].(node)["items"].([]any)[at])
		}
		if rows != nil {
			continue
		}
		var value node
		if list, _ := side["targetList"].([]any); at < len(list) {
			value, _ = list[at].(node)["ResTarget"].(node)["val"].(node)
		}
		if len(tables) == 0 {
			broken[noInserted] = broken[noInserted] || !isBucketParameter(value)
			continue
		}
		column, _ := value["ColumnRef"].(node)
		alias, ok := strings.CutSuffix(words(column["fields"]), ".bucket")
		broken[noTable] = broken[noTable] || !ok || !ofDevices[tables[alias]]
	}
}

// checkChange looks at what an UPDATE or ON CONFLICT sets, and at the conditions of those and of a
// DELETE.
func checkChange(n node, broken map[string]bool) {
	set, _ := n["targetList"].([]any)
	for _, one := range set {
		broken[moved] = broken[moved] || one.(node)["ResTarget"].(node)["name"] == "bucket"
	}
	walk([]any{set, n["whereClause"]}, func(kind string, n node) bool {
		switch kind {
		case "CaseExpr", "CoalesceExpr":
			broken[timeInCase] = broken[timeInCase] || asksTheTime(n)
		case "A_Expr":
			if op := words(n["name"]); op == "+" || op == "-" {
				ofTime := asksTheTime(n) || isOfTime(n)
				broken[timeOfColumn] = broken[timeOfColumn] || ofTime && has(n, anyNode, "ColumnRef")
			}
		}
		return true
	})
}

func TestEachStatementConcernsOneBucket(t *testing.T) {
	t.Parallel()
	judged := map[string][]string{}
	for _, s := range statements(t) {
		judged[s.name] = judge(t, s.sql)
	}
	if len(judged) < 100 {
		t.Errorf("%d statements", len(judged))
	}
	for _, fault := range unexcepted(judged, everywhere, withAccounts) {
		t.Error(fault)
	}
}

// unexcepted are the statements that break a rule, by the rules that each breaks, and are not among
// the exceptions; and the exceptions that are not needed.
func unexcepted(judged map[string][]string, everywhere, withAccounts map[string]string) (faults []string) {
	for name, broken := range judged {
		_, isEverywhere := everywhere[name]
		if _, ok := withAccounts[name]; ok {
			broken = slices.DeleteFunc(slices.Clone(broken), func(rule string) bool { return rule == joined })
		}
		if len(broken) > 0 && !isEverywhere {
			faults = append(faults, name+": "+strings.Join(broken, "; "))
		}
	}
	for name := range everywhere {
		if len(judged[name]) == 0 {
			faults = append(faults, name+" is listed as one about all buckets, and is none")
		}
	}
	for name := range withAccounts {
		if !slices.Contains(judged[name], joined) {
			faults = append(faults, name+" is listed as one that joins accounts, and does not")
		}
	}
	slices.Sort(faults)
	return faults
}

func TestAnExceptionIsNeeded(t *testing.T) {
	t.Parallel()
	judged := map[string][]string{"Good": nil, "Bad": {noBucket}, "Joins": {joined}, "JoinsBadly": {joined, noBucket}}
	for _, c := range []struct {
		everywhere, withAccounts []string
		faults                   int
	}{
		{[]string{"Bad"}, []string{"Joins", "JoinsBadly"}, 1},
		{[]string{"Bad", "JoinsBadly"}, []string{"Joins"}, 0},
		{[]string{"Bad", "JoinsBadly", "Good"}, []string{"Joins"}, 1},
		{[]string{"Bad", "JoinsBadly", "Gone"}, []string{"Joins"}, 1},
		{[]string{"Bad", "JoinsBadly"}, []string{"Joins", "Bad"}, 1},
		{[]string{"Bad", "JoinsBadly"}, []string{"Joins", "Gone"}, 1},
		{[]string{"JoinsBadly"}, []string{"Joins"}, 1},
	} {
		list := func(names []string) map[string]string {
			out := map[string]string{}
			for _, name := range names {
				out[name] = ""
			}
			return out
		}
		if got := unexcepted(judged, list(c.everywhere), list(c.withAccounts)); len(got) != c.faults {
			t.Errorf("%v, %v: %q, want %d", c.everywhere, c.withAccounts, got, c.faults)
		}
	}
}

func TestEachRuleFindsAStatementThatBreaksIt(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ rule, sql string }{
		{noBucket, `SELECT g.reason FROM gaps g WHERE g.device_id = @id`},
		{noBucket, `SELECT 1 FROM gaps g WHERE g.bucket = @bucket OR g.device_id = @id`},
		{noBucket, `SELECT 1 FROM gaps g WHERE g.bucket = @other AND g.bucket <> @bucket`},
		{noBucket, `SELECT 1 FROM gaps g JOIN mailboxes m ON m.bucket = g.bucket WHERE g.bucket = @bucket`},
		{noBucket, `SELECT (SELECT count(*) FROM gaps g WHERE g.device_id = m.device_id)
			FROM mailboxes m WHERE m.bucket = @bucket`},
		{noBucket, `SELECT 1 FROM mailboxes m CROSS JOIN LATERAL (
			SELECT FROM messages x WHERE x.bucket = m.bucket LIMIT 1) o WHERE m.bucket = @bucket`},
		{noBucket, `DELETE FROM gaps g USING mailboxes m WHERE m.bucket = @bucket AND g.device_id = m.device_id`},
		{noBucket, `UPDATE messages SET skipped = 0 WHERE (messages).ctid = ANY(ARRAY(
			SELECT m.ctid FROM messages m WHERE m.bucket = @bucket))`},
		{noBucket, `SELECT 1 FROM receipts_1 r WHERE r.slot = 1`},
		{noBucket, `SELECT 1 FROM GAPS g`},
		{noBucket, `SELECT g.reason FROM gaps g WHERE g.bucket = @bucket UNION ALL SELECT m.reason FROM gaps m`},
		{noBucket, `SELECT m.pending FROM mailboxes m UNION ALL SELECT 1 UNION SELECT 2`},
		{noBucket, `SELECT 1 FROM mailboxes m LEFT JOIN gaps g ON m.bucket = @bucket AND g.bucket = @bucket`},
		{noBucket, `SELECT 1 FROM mailboxes m FULL JOIN gaps g ON m.bucket = @bucket AND g.bucket = @bucket`},
		{whole, `TRUNCATE receipts_0`},
		{whole, `LOCK TABLE ONLY messages IN SHARE MODE`},
		{whole, `VACUUM (SKIP_LOCKED) gaps`},
		{whole, `COPY gaps FROM STDIN`},
		{whole, `MERGE INTO gaps g USING (SELECT 1) a ON g.bucket = @bucket WHEN MATCHED THEN DELETE`},
		{moved, `UPDATE gaps g SET bucket = 0 WHERE g.bucket = @bucket`},
		{moved, `UPDATE gaps g SET (to_seq, bucket) = (1, @bucket) WHERE g.bucket = @bucket`},
		{moved, `INSERT INTO gaps (bucket, device_id) VALUES (@bucket, @id)
			ON CONFLICT ON CONSTRAINT gaps_pkey DO UPDATE SET bucket = excluded.bucket`},
		{noInserted, `INSERT INTO gaps (device_id) VALUES (@id)`},
		{noInserted, `INSERT INTO gaps VALUES (@bucket, @id)`},
		{noInserted, `INSERT INTO gaps DEFAULT VALUES`},
		{noInserted, `INSERT INTO gaps (bucket, device_id) VALUES (@bucket, @id), (0, @id)`},
		{noInserted, `INSERT INTO gaps (bucket, device_id) SELECT @bucket, @id UNION ALL SELECT 0, @id`},
		{noTable, `INSERT INTO gaps (bucket, device_id) SELECT m.bucket, m.device_id FROM mailboxes m WHERE m.bucket = @bucket
			UNION ALL SELECT @bucket, m.device_id FROM mailboxes m WHERE m.bucket = @bucket`},
		{noInserted, `INSERT INTO gaps (device_id, bucket) VALUES (@bucket, @id)`},
		{noInserted, `INSERT INTO gaps (bucket, device_id) SELECT 0, unnest(@ids::uuid[])`},
		{noTable, `INSERT INTO gaps (bucket, device_id) SELECT @bucket, m.device_id FROM mailboxes m WHERE m.bucket = @bucket`},
		{target, `INSERT INTO gaps (bucket, device_id) VALUES (@bucket, @id) ON CONFLICT (device_id) DO NOTHING`},
		{changingWith, `WITH gone AS (DELETE FROM gaps g WHERE g.bucket = @bucket)
			INSERT INTO gaps (bucket, device_id) SELECT @bucket, unnest(@ids::uuid[])`},
		{atRandom, `SELECT random() FROM gaps g WHERE g.bucket = @bucket`},
		{timeInCase, `UPDATE push_wakeups w SET due_at = CASE WHEN @anew THEN now() ELSE w.due_at END WHERE w.bucket = @bucket`},
		{timeInCase, `UPDATE push_wakeups w SET due_at = CASE WHEN @anew THEN CURRENT_TIMESTAMP ELSE w.due_at END
			WHERE w.bucket = @bucket`},
		{timeInCase, `UPDATE push_wakeups w SET due_at = coalesce(w.due_at, LOCALTIMESTAMP) WHERE w.bucket = @bucket`},
		{timeInCase, `UPDATE push_wakeups w SET due_at = CASE w.kind WHEN 1 THEN pg_catalog.transaction_timestamp() END
			WHERE w.bucket = @bucket`},
		{timeInCase, `DELETE FROM push_wakeups w WHERE w.bucket = @bucket AND coalesce(w.due_at, CURRENT_DATE) < @then`},
		{timeOfColumn, `UPDATE push_wakeups w SET due_at = w.due_at + @pause::interval WHERE w.bucket = @bucket`},
		{timeOfColumn, `UPDATE push_wakeups w SET due_at = make_interval(secs => w.kind) - @ago WHERE w.bucket = @bucket`},
		{timeOfColumn, `UPDATE push_wakeups w SET due_at = w.due_at + a.pause FROM (SELECT unnest(@pauses::interval[]) AS pause) a
			WHERE w.bucket = @bucket`},
		{timeOfColumn, `UPDATE push_wakeups w SET kind = 1 WHERE w.bucket = @bucket AND w.due_at + @pause < @then`},
		{timeOfColumn, `UPDATE push_wakeups w SET due_at = CURRENT_TIMESTAMP + a.pause FROM (SELECT @pause AS pause) a
			WHERE w.bucket = @bucket`},
		{timeOfColumn, `UPDATE push_wakeups w SET due_at = now() + a.pause FROM (SELECT unnest(@pauses::interval[]) AS pause) a
			WHERE w.bucket = @bucket`},
		{timeOfColumn, `INSERT INTO push_wakeups (bucket, device_id) VALUES (@bucket, @id)
			ON CONFLICT ON CONSTRAINT push_wakeups_pkey DO UPDATE SET due_at = excluded.due_at + interval '1 second'`},
		{joined, `SELECT 1 FROM gaps g JOIN devices d ON d.id = g.device_id WHERE g.bucket = @bucket`},
		{emptyExists, `SELECT EXISTS (SELECT FROM gaps g WHERE g.bucket = @bucket)`},
		{emptyExists, `SELECT EXISTS (SELECT 1 UNION ALL SELECT FROM gaps g WHERE g.bucket = @bucket)`},
	} {
		if got := judge(t, number("", c.sql).sql); !slices.Contains(got, c.rule) {
			t.Errorf("%q is not found in %s\nonly %q", c.rule, c.sql, got)
		}
	}
}
