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
