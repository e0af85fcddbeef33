package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLeftoversAreFilesThatNothingIgnores(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(".gitignore", "*.log\n")
	write("README.md", "# A\n")
	if err := track(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	write("a.log", "")
	if err := leftovers(t.Context(), dir); err != nil {
		t.Errorf("an ignored file: %v", err)
	}
	write("a.dump", "")
	if err := leftovers(t.Context(), dir); err == nil || !strings.HasSuffix(err.Error(), "create: a.dump") {
		t.Errorf("a file that nothing ignores: %v", err)
	}
}
