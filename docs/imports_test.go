package docs_test

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestTheImportGraphIsTheOneOfTheCode compares the block in architecture.md with what the packages
// import. What is generated is left out, and so is the kit.
func TestTheImportGraphIsTheOneOfTheCode(t *testing.T) {
	t.Parallel()
	const module, begin, end = "github.com/obscura-relay/obscura/", "```text imports\n", "```\n"
	list := exec.CommandContext(t.Context(), "go", "list", "-f", `{{.ImportPath}}{{range .Imports}} {{.}}{{end}}`,
		"../cmd/...", "../internal/...")
	packages, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	var graph strings.Builder
	for line := range strings.Lines(string(packages)) {
		path, imports, _ := strings.Cut(strings.TrimSpace(strings.ReplaceAll(line, module, "")), " ")
		ours := slices.DeleteFunc(strings.Fields(imports), func(p string) bool {
			return !strings.HasPrefix(p, "internal/")
		})
		if strings.HasPrefix(path, "internal/kit/") || len(ours) == 0 {
			continue
		}
		short := strings.ReplaceAll(strings.Join(ours, " "), "internal/", "")
		for from, label := 0, path; from < len(short); label = "" {
			part := short[from:]
			if len(part) > 70 {
				part = part[:strings.LastIndex(part[:70], " ")]
			}
			from += len(part) + 1
			graph.WriteString(strings.TrimRight(fmt.Sprintf("%-24s %s", label, part), " ") + "\n")
		}
	}
	text, err := os.ReadFile("architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(text), begin)
	old, after, closed := strings.Cut(rest, end)
	switch {
	case !found || !closed:
		t.Fatal("architecture.md has no block of imports")
	case old == graph.String():
	case *update:
		if err := os.WriteFile("architecture.md", []byte(before+begin+graph.String()+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("the imports in architecture.md are stale, run: go test ./docs -run TestTheImportGraph -update\n%s",
			graph.String())
	}
}
