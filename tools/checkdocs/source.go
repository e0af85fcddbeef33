package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"unicode/utf8"
)

// codeWidth is how many columns a line of Go code has at most; a comment has those of prose. A tab
// takes four.
const codeWidth = 120

// unbroken is what a line of code is not broken in and does not count: a string, what a linter is
// told, and the spaces by which gofmt aligns what follows a string.
var unbroken = regexp.MustCompile("\"(?:[^\"\\\\]|\\\\.)*\":? *|//nolint.*$")

// checkWidths returns the lines of Go that are too wide, but for those that a generator wrote.
func checkWidths(root string) (wrong []string, err error) {
	err = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(root, path)
		if entry.IsDir() && path != root &&
			(name == "gen" || entry.Name() == "node_modules" || strings.HasPrefix(entry.Name(), ".")) {
			return fs.SkipDir
		}
		if filepath.Ext(name) != ".go" {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		raw := false // within a raw string
		for i, line := range strings.Split(string(text), "\n") {
			if !raw && !strings.Contains(line, "`") {
				if most := lineWidth(line); most > 0 {
					wrong = append(wrong, fmt.Sprintf("%s:%d: a line is wider than %d columns", name, i+1, most))
				}
			}
			raw = raw != (strings.Count(line, "`")%2 == 1)
		}
		return nil
	})
	return wrong, err
}

// lineWidth returns the bound that a line of Go is over, or 0.
func lineWidth(line string) int {
	line = strings.ReplaceAll(line, "\t", "    ")
	comment := strings.HasPrefix(strings.TrimSpace(line), "// ")
	switch {
	case comment && tooWide(line):
		return width
	case !comment && utf8.RuneCountInString(unbroken.ReplaceAllString(line, "")) > codeWidth:
		return codeWidth
	}
	return 0
}
