package queries_test

import (
	"maps"
	"slices"
	"strings"
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

// asksTheTime reports that a tree asks what time it is, by a function or by a word such as
// CURRENT_TIMESTAMP.
func asksTheTime(tree any) bool {
	return has(tree, func(n node) bool {
		op, _ := n["op"].(string)
		return strings.Contains(op, "TIME") || strings.Contains(op, "DATE") ||
			slices.Contains([]string{"now", "clock_timestamp", "statement_timestamp", "transaction_timestamp", "timeofday"},
				strings.TrimPrefix(words(n["funcname"]), "pg_catalog."))
	}, "FuncCall", "SQLValueFunction")
}

// isOfTime reports that a tree has an interval in it, or a column that is a time: their names end
// in _at, see TestTheTablesOfDevicesAreThoseWithABucket.
func isOfTime(tree any) bool {
	return has(tree, func(n node) bool {
		typeName, _ := n["typeName"].(node)
		return strings.HasSuffix(words(typeName["names"]), "interval") ||
			strings.Contains(words(n["funcname"]), "interval") || strings.HasSuffix(words(n["fields"]), "_at")
	}, "TypeCast", "FuncCall", "ColumnRef")
}

func isRandom(n node) bool { return strings.Contains(words(n["funcname"]), "random") }

// isBucketParameter reports $1, with or without a cast.
func isBucketParameter(n any) bool {
	tree, _ := n.(node)
	if cast, ok := tree["TypeCast"].(node); ok {
		return isBucketParameter(cast["arg"])
	}
	param, ok := tree["ParamRef"].(node)
	return ok && param["number"] == float64(1)
}
