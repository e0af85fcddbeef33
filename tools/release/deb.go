package main

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/goreleaser/nfpm/v2"
	"github.com/goreleaser/nfpm/v2/deb"
	"github.com/goreleaser/nfpm/v2/files"
)

// deb builds the package. Its files are in deploy/debian.
func (r *release) deb(arch string) error {
	changes, err := r.changelog()
	if err != nil {
		return err
	}
	debian := func(name string) string { return filepath.Join(r.source, "deploy", "debian", name) }
	file := func(source, destination string, mode fs.FileMode) *files.Content {
		return &files.Content{Source: source, Destination: destination, FileInfo: &files.ContentFileInfo{Mode: mode,
			Owner: "root", Group: "root", MTime: r.time}}
	}
	settings := file(debian("obscura.env"), "/etc/obscura/obscura.env", 0o600)
	settings.Type = files.TypeConfigNoReplace
	info := nfpm.WithDefaults(&nfpm.Info{
		Name: "obscura", Arch: arch, Version: r.version, Section: "net", Priority: "optional", MTime: r.time,
		Maintainer: maintainer,
		Homepage:   "https://github.com/obscura-relay/obscura",
		Description: "zero-knowledge relay for the Signal Protocol\n" +
			"It keeps public keys, so that people can start a conversation while the other\n" +
			"side is away, and it keeps ciphertext until the other side has it. Without a\n" +
			"URL of a PostgreSQL it runs a private one, for which it needs the programs of\n" +
			"the package postgresql.",
		Overridables: nfpm.Overridables{
			Depends:    []string{"adduser", "ca-certificates"},
			Recommends: []string{"postgresql"},
			Contents: files.Contents{
				file(r.program(arch), "/usr/bin/obscura", 0o755),
				file(debian("obscura.service"), "/lib/systemd/system/obscura.service", 0o644),
				file(debian("obscura.socket"), "/lib/systemd/system/obscura.socket", 0o644),
				settings,
				file(debian("copyright"), "/usr/share/doc/obscura/copyright", 0o644),
				file(changes, "/usr/share/doc/obscura/changelog.gz", 0o644),
				file(r.program(arch)+".cdx.json", "/usr/share/doc/obscura/obscura.cdx.json", 0o644),
				file(debian("lintian-overrides"), "/usr/share/lintian/overrides/obscura", 0o644),
			},
			Scripts: nfpm.Scripts{PostInstall: debian("postinst"), PreRemove: debian("prerm"), PostRemove: debian("postrm")},
			Deb:     nfpm.Deb{Compression: "gzip"},
		},
	})
	if err := nfpm.PrepareForPackager(info, "deb"); err != nil {
		return err
	}
	var packed bytes.Buffer
	if err := deb.Default.Package(info, &packed); err != nil {
		return fmt.Errorf("the package for %s: %w", arch, err)
	}
	return os.WriteFile(filepath.Join(r.out, "obscura_"+arch+".deb"), packed.Bytes(), 0o644)
}

const maintainer = "The Obscura project <security@obscura.invalid>"

// changelog makes the file that every package has: it leads to the true one.
func (r *release) changelog() (string, error) {
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return "", err
	}
	_, err = fmt.Fprintf(w, "obscura (%s) stable; urgency=medium\n\n  * See https://github.com/obscura-relay/obscura/blob/main/CHANGELOG.md\n"+
		"\n -- %s  %s\n", r.number(), maintainer, r.time.Format(time.RFC1123Z))
	if err := errors.Join(err, w.Close()); err != nil {
		return "", err
	}
	file := filepath.Join(filepath.Dir(r.source), "changelog.gz")
	return file, os.WriteFile(file, b.Bytes(), 0o644)
}
