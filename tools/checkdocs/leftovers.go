package main

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
)

// track makes a repository of the copy, so that files that come later are told from it.
func track(ctx context.Context, dir string) error {
	for _, args := range [][]string{{"init", "--quiet"}, {"add", "--all"}} {
		if out, err := exec.CommandContext(ctx, "git",
			append([]string{"-C", dir}, args...)...).CombinedOutput(); err != nil {
			return fmt.Errorf("git %s: %w: %s", args[0], err, out)
		}
	}
	return nil
}

// leftovers fails when commands have left files that .gitignore does not cover: a reader would
// commit them, and some hold a database.
func leftovers(ctx context.Context, dir string) error {
	out, err := exec.CommandContext(ctx, "git", "-C", dir, "ls-files", "--others", "--exclude-standard").Output()
	if err != nil {
		return fmt.Errorf("git cannot list the files of the copy: %w", err)
	}
	if names := strings.Fields(string(out)); len(names) > 0 {
		return fmt.Errorf(".gitignore does not cover what the documents' commands create: %s",
			strings.Join(names, ", "))
	}
	return nil
}
