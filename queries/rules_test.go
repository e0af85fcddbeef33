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
	noBucket     = "a reference to a table has no condition alias.bucket = @bucket"
	noTable      = "an INSERT that selects from tables takes its bucket from another place than one of them"
	noInserted   = "an INSERT has another bucket than @bucket"
	target       = "ON CONFLICT names columns: say ON CONFLICT DO NOTHING or ON CONSTRAINT"
	changingWith = "a WITH changes data before an INSERT"
	atRandom     = "it is random"
	timeInCase   = "an UPDATE asks for the time in CASE or coalesce"
	timeOfColumn = "an UPDATE adds an interval to a column, or a column to the time"
	joined       = "it joins a table of accounts"
	emptyExists  = "EXISTS selects nothing: say SELECT 1"
)

type node = map[string]any

// walk visits all nodes of a syntax tree, with the names of their kinds, and goes into those for
// which visit returns true.
func walk(tree any, visit func(kind string, n node) bool) {
	switch tree := tree.(type) {
	case []any:
		for _, one := range tree {
			walk(one, visit)
		}
	case node:
		for _, kind := range slices.Sorted(maps.Keys(tree)) {
			if inner, ok := tree[kind].(node); ok {
				if visit(kind, inner) {
					walk(inner, visit)
				}
				continue
			}
			walk(tree[kind], visit)
		}
	}
}

// has reports whether a node of one of these kinds, for which also is true, is in a tree.
func has(tree any, also func(node) bool, kinds ...string) (found bool) {
	walk(tree, func(kind string, n node) bool {
		found = found || slices.Contains(kinds, kind) && also(n)
		return !found
	})
	return found
}

func anyNode(node) bool { return true }

// words are the texts in a list of String nodes, such as the name of a function.
func words(list any) string {
	var out []string
	walk(list, func(kind string, n node) bool {
		if text, ok := n["sval"].(string); ok && kind == "String" {
			out = append(out, text)
		}
		return true
	})
	return strings.Join(out, ".")
}

func isClock(n node) bool {
	return slices.Contains([]string{"now", "clock_timestamp", "statement_timestamp", "transaction_timestamp"},
		strings.TrimPrefix(words(n["funcname"]), "pg_catalog."))
}

func isRandom(n node) bool { return strings.Contains(words(n["funcname"]), "random") }

func isInterval(n node) bool {
	typeName, _ := n["typeName"].(node)
	return strings.HasSuffix(words(typeName["names"]), "interval")
}

// isBucketParameter reports $1, with or without a cast.
func isBucketParameter(n any) bool {
	tree, _ := n.(node)
	if cast, ok := tree["TypeCast"].(node); ok {
		return isBucketParameter(cast["arg"])
	}
	param, ok := tree["ParamRef"].(node)
	return ok && param["number"] == float64(1)
}

// references are the tables of a FROM, by what they are called; those of sub-selects are not among
// them. Conditions of joins are added to where.
func references(from any, tables map[string]string, where *[]any) {
	switch from := from.(type) {
	case []any:
		for _, one := range from {
			references(one, tables, where)
		}
	case node:
		if table, ok := from["RangeVar"].(node); ok {
			tables[called(table)], _ = table["relname"].(string)
		}
		if join, ok := from["JoinExpr"].(node); ok {
			references(join["larg"], tables, where)
			references(join["rarg"], tables, where)
			*where = append(*where, join["quals"])
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
	named := func(table string) bool { return strings.Contains(sql, table) }
	if !slices.ContainsFunc(slices.Collect(maps.Keys(ofDevices)), named) {
		return nil
	}
	text, err := pgquery.ParseToJSON(sql)
	var tree any
	if err == nil {
		err = json.Unmarshal([]byte(text), &tree)
	}
	if err != nil {
		t.Fatalf("%v: %s", err, sql)
	}
	broken := map[string]bool{}
	with := map[string]bool{}
	tables := map[string]bool{}
	walk(tree, func(kind string, n node) bool {
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
	broken[atRandom] = has(tree, isRandom, "FuncCall")
	walk(tree, func(kind string, n node) bool {
		switch kind {
		case "SelectStmt", "DeleteStmt", "UpdateStmt":
			checkReferences(n, broken)
		case "InsertStmt":
			checkInsert(n, broken)
		case "SubLink":
			if n["subLinkType"] == "EXISTS_SUBLINK" {
				sub, _ := n["subselect"].(node)["SelectStmt"].(node)
				broken[emptyExists] = broken[emptyExists] || sub["targetList"] == nil
			}
		}
		if kind == "UpdateStmt" || kind == "onConflictClause" {
			checkAssignments(n["targetList"], broken)
		}
		return true
	})
	maps.DeleteFunc(broken, func(_ string, is bool) bool { return !is })
	return slices.Sorted(maps.Keys(broken))
}

func checkReferences(n node, broken map[string]bool) {
	tables, where, found := map[string]string{}, []any{n["whereClause"]}, map[string]bool{}
	for _, from := range []any{n["fromClause"], n["usingClause"]} {
		references(from, tables, &where)
	}
	if changed, ok := n["relation"].(node); ok {
		tables[called(changed)], _ = changed["relname"].(string)
	}
	bound(where, found)
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
	source, _ := n["selectStmt"].(node)["SelectStmt"].(node)
	at := slices.IndexFunc(n["cols"].([]any), func(c any) bool {
		return c.(node)["ResTarget"].(node)["name"] == "bucket"
	})
	var value any
	tables := map[string]string{}
	references(source["fromClause"], tables, new([]any))
	if at >= 0 {
		if lists, ok := source["valuesLists"].([]any); ok {
			value = lists[0].(node)["List"].(node)["items"].([]any)[at]
		} else {
			value = source["targetList"].([]any)[at].(node)["ResTarget"].(node)["val"]
		}
	}
	if len(tables) == 0 {
		broken[noInserted] = broken[noInserted] || !isBucketParameter(value)
		return
	}
	column, _ := value.(node)["ColumnRef"].(node)
	alias, ok := strings.CutSuffix(words(column["fields"]), ".bucket")
	broken[noTable] = broken[noTable] || !ok || !ofDevices[tables[alias]]
}

func checkAssignments(list any, broken map[string]bool) {
	walk(list, func(kind string, n node) bool {
		switch kind {
		case "CaseExpr", "CoalesceExpr":
			broken[timeInCase] = broken[timeInCase] || has(n, isClock, "FuncCall")
		case "A_Expr":
			ofTime := has(n, isClock, "FuncCall") || has(n, isInterval, "TypeCast")
			if op := words(n["name"]); op == "+" || op == "-" {
				broken[timeOfColumn] = broken[timeOfColumn] || ofTime && has(n, anyNode, "ColumnRef")
			}
		}
		return true
	})
}

func TestEachStatementConcernsOneBucket(t *testing.T) {
	t.Parallel()
	judged := 0
	for _, s := range statements(t) {
		broken := judge(t, s.sql)
		switch {
		case everywhere[s.name] != "":
			continue
		case withAccounts[s.name] != "":
			if !slices.Equal(broken, []string{joined}) {
				t.Errorf("%s is listed as one that joins accounts, and breaks %q", s.name, broken)
			}
		case len(broken) > 0:
			t.Errorf("%s: %s", s.name, strings.Join(broken, "; "))
		}
		judged++
	}
	if judged < 100 {
		t.Errorf("%d statements", judged)
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
		{noInserted, `INSERT INTO gaps (device_id) VALUES (@id)`},
		{noInserted, `INSERT INTO gaps (device_id, bucket) VALUES (@bucket, @id)`},
		{noInserted, `INSERT INTO gaps (bucket, device_id) SELECT 0, unnest(@ids::uuid[])`},
		{noTable, `INSERT INTO gaps (bucket, device_id) SELECT @bucket, m.device_id FROM mailboxes m WHERE m.bucket = @bucket`},
		{target, `INSERT INTO gaps (bucket, device_id) VALUES (@bucket, @id) ON CONFLICT (device_id) DO NOTHING`},
		{changingWith, `WITH gone AS (DELETE FROM gaps g WHERE g.bucket = @bucket)
			INSERT INTO gaps (bucket, device_id) SELECT @bucket, unnest(@ids::uuid[])`},
		{atRandom, `SELECT random() FROM gaps g WHERE g.bucket = @bucket`},
		{timeInCase, `UPDATE push_wakeups w SET due_at = CASE WHEN @anew THEN now() ELSE w.due_at END WHERE w.bucket = @bucket`},
		{timeOfColumn, `UPDATE push_wakeups w SET due_at = w.due_at + @pause::interval WHERE w.bucket = @bucket`},
		{timeOfColumn, `UPDATE push_wakeups w SET due_at = now() + a.pause FROM (SELECT unnest(@pauses::interval[]) AS pause) a
			WHERE w.bucket = @bucket`},
		{timeOfColumn, `INSERT INTO push_wakeups (bucket, device_id) VALUES (@bucket, @id)
			ON CONFLICT ON CONSTRAINT push_wakeups_pkey DO UPDATE SET due_at = excluded.due_at + interval '1 second'`},
		{joined, `SELECT 1 FROM gaps g JOIN devices d ON d.id = g.device_id WHERE g.bucket = @bucket`},
		{emptyExists, `SELECT EXISTS (SELECT FROM gaps g WHERE g.bucket = @bucket)`},
	} {
		if got := judge(t, number("", c.sql).sql); !slices.Contains(got, c.rule) {
			t.Errorf("%q is not found in %s\nonly %q", c.rule, c.sql, got)
		}
	}
}
