package main

import (
	"fmt"
	"io"
	"path/filepath"

	"golang.org/x/mod/module"
	"golang.org/x/mod/zip"
)

// moduleZip is the dry run of publishing the Go module: what a module proxy does with a tag.
func (r *release) moduleZip() error {
	version := module.Version{Path: "github.com/obscura-relay/obscura", Version: r.version}
	if err := zip.CreateFromVCS(io.Discard, version, r.source, "HEAD", ""); err != nil {
		return fmt.Errorf("the Go module cannot be published from %s: %w", filepath.Base(r.source), err)
	}
	return nil
}
