package main

import (
	"archive/tar"
	"bytes"
	"encoding/pem"
	"io"
	"os"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// image writes one image for all architectures as a tar of an OCI layout.
func (r *release) image() error {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, arch := range architectures {
		image, err := r.imageFor(arch)
		if err != nil {
			return err
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: image,
			Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}}})
	}
	folder := filepath.Join(filepath.Dir(r.source), "image")
	path, err := layout.Write(folder, empty.Index)
	if err != nil {
		return err
	}
	name := map[string]string{"org.opencontainers.image.ref.name": r.number()}
	if err := path.AppendIndex(index, layout.WithAnnotations(name)); err != nil {
		return err
	}
	packed, err := r.packFolder(folder)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(r.out, "obscura_oci.tar"), packed, 0o644)
}

// user is a number that no system gives to an account; the image has no list of accounts.
const user = 65532

// imageFor has a layer with the binary, certificate authorities and the folder for attachments.
// Nothing else runs in it, so nothing has to be reaped: without programs of PostgreSQL the relay
// has no children.
func (r *release) imageFor(arch string) (v1.Image, error) {
	program, err := os.ReadFile(r.program(arch))
	if err != nil {
		return nil, err
	}
	authorities := authorities()
	licence, err := os.ReadFile(filepath.Join(r.source, "LICENSE"))
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range []struct {
		tar.Header
		text []byte
	}{
		{tar.Header{Name: "data/", Mode: 0o770, Uid: user}, nil}, // any user of group 0 may write, too
		{tar.Header{Name: "etc/", Mode: 0o755}, nil},
		{tar.Header{Name: "etc/ssl/", Mode: 0o755}, nil},
		{tar.Header{Name: "etc/ssl/certs/", Mode: 0o755}, nil},
		{tar.Header{Name: "etc/ssl/certs/ca-certificates.crt", Mode: 0o644}, authorities},
		{tar.Header{Name: "obscura", Mode: 0o755}, program},
		{tar.Header{Name: "LICENSE", Mode: 0o644}, licence},
		{tar.Header{Name: "tmp/", Mode: 0o1777}, nil},
	} {
		h.Typeflag, h.Size, h.ModTime, h.Format = tar.TypeReg, int64(len(h.text)), r.time, tar.FormatPAX
		if h.text == nil {
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(&h.Header); err != nil {
			return nil, err
		}
		if _, err := w.Write(h.text); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil }
	layer, err := tarball.LayerFromOpener(open, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, err
	}
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	image, err := mutate.Append(base,
		mutate.Addendum{Layer: layer, History: v1.History{Created: v1.Time{Time: r.time}, CreatedBy: "make release"}})
	if err != nil {
		return nil, err
	}
	file, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	file.Created, file.OS, file.Architecture = v1.Time{Time: r.time}, "linux", arch
	file.Config = v1.Config{
		User:         "65532:0",
		Entrypoint:   []string{"/obscura"},
		Cmd:          []string{"serve"},
		Env:          []string{"OBSCURA_LISTEN=:3000", "OBSCURA_DATA_DIR=/data", "OBSCURA_LOG_FORMAT=json"},
		ExposedPorts: map[string]struct{}{"3000/tcp": {}},
		Volumes:      map[string]struct{}{"/data": {}},
		WorkingDir:   "/",
		Healthcheck: &v1.HealthConfig{Test: []string{"CMD", "/obscura", "healthcheck"},
			Interval: 10 * time.Second, Timeout: 6 * time.Second, StartPeriod: time.Minute, Retries: 3},
		Labels: map[string]string{
			"org.opencontainers.image.source":   "https://github.com/obscura-relay/obscura",
			"org.opencontainers.image.version":  r.number(),
			"org.opencontainers.image.licenses": "Apache-2.0",
		},
	}
	return mutate.ConfigFile(image, file)
}

// authorities are Mozilla's, as the Go project keeps them. Those that may sign for some names or
// times only are left out: a file of certificates cannot say so.
func authorities() []byte {
	var b bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint == nil {
			_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}) // a buffer takes all
		}
	}
	return b.Bytes()
}

// packFolder is a tar of a folder, in the order of names.
func (r *release) packFolder(folder string) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	err := filepath.WalkDir(folder, func(path string, entry os.DirEntry, err error) error {
		if err != nil || path == folder {
			return err
		}
		name, err := filepath.Rel(folder, path)
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return w.WriteHeader(&tar.Header{Name: name + "/", Typeflag: tar.TypeDir, Mode: 0o755, ModTime: r.time})
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		header := &tar.Header{Name: name, Mode: 0o644, Size: int64(len(text)), ModTime: r.time}
		if err := w.WriteHeader(header); err != nil {
			return err
		}
		_, err = w.Write(text)
		return err
	})
	if err != nil {
		return nil, err
	}
	return b.Bytes(), w.Close()
}
