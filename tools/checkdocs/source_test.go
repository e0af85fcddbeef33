package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestLinesOfGoAreNotTooWide(t *testing.T) {
	words := func(n int) string { return strings.Repeat("word ", n)[:5*n-1] }
	for line, want := range map[string]int{
		"// " + words(19): 0, "// " + words(20): 100, "\t// " + words(19): 100, "//nolint:x // " + words(30): 0,
		"// " + strings.Repeat("é", 97): 0,
		"\t" + strings.Repeat("a", 116): 0, "\t" + strings.Repeat("a", 117): 120,
		`x("` + words(30) + `")`: 0, `x("\"` + words(30) + `", ` + strings.Repeat("a", 120) + ")": 120,
		strings.Repeat("a", 118) + " //nolint:gosec // it is " + words(9): 0,
	} {
		if got := lineWidth(line); got != want {
			t.Errorf("%q: %d, want %d", line, got, want)
		}
	}
}

func TestWideLinesAreFoundInTheTree(t *testing.T) {
	root, wide := t.TempDir(), "package x\n\nvar x = `\n"+strings.Repeat("a", 200)+"\n`\n\nvar y = "+strings.Repeat("a", 200)+"\n"
	for _, name := range []string{"a/x.go", "gen/x.go", ".git/x.go", "a/x.txt"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, name), []byte(wide), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{filepath.Join("a", "x.go") + ":7: a line is wider than 120 columns"}
	if got, err := checkWidths(root); err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
}
