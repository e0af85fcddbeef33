package app_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// A warning at night is read by somebody who does not know the program.
func TestEveryWarningNamesItsComponent(t *testing.T) {
	t.Parallel()
	warnings := 0
	err := filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() && (strings.HasSuffix(entry.Name(), "test") || entry.Name() == "e2e") {
			return filepath.SkipDir // the Error of a test is no line of a log
		}
		if entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		files := token.NewFileSet()
		file, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, declaration := range file.Decls { // what a library logs, too
			if mentions(declaration, "", "NewLogLogger") && !mentions(declaration, strconv.Quote("component"), "DiscardHandler") {
				t.Errorf("%s: the lines of a library do not name their component", files.Position(declaration.Pos()))
			}
		}
		ast.Inspect(file, func(node ast.Node) bool {
			call, ok := node.(*ast.CallExpr)
			if !ok {
				return true
			}
			method, ok := call.Fun.(*ast.SelectorExpr)
			if !ok || method.Sel.Name != "Warn" && method.Sel.Name != "Error" || len(call.Args) == 0 {
				return true
			}
			warnings++
			for _, argument := range call.Args[1:] {
				if literal, ok := argument.(*ast.BasicLit); ok && literal.Value == strconv.Quote("component") {
					return true
				}
			}
			t.Errorf("%s: the line does not name its component", files.Position(call.Pos()))
			return true
		})
		return nil
	})
	if err != nil || warnings < 20 {
		t.Errorf("%d warnings were found: %v", warnings, err)
	}
}

// mentions reports that a literal or a name is somewhere in the node.
func mentions(node ast.Node, literal, name string) (found bool) {
	ast.Inspect(node, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.BasicLit:
			found = found || n.Value == literal
		case *ast.Ident:
			found = found || n.Name == name
		}
		return !found
	})
	return found
}
