// Command release builds what is published of a commit: binaries, their bills of materials, Debian
// packages, an image and the checksums of all. It builds a clone of the commit, with the toolchain
// of go.mod and the time of the commit, so that the same commit gives the same bytes anywhere. Its
// dependencies are those of the modules of this folder and never the relay's.
package main

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/mod/modfile"
)

var architectures = []string{"amd64", "arm64"}

// release is a commit that is built.
type release struct {
	source  string // the clone
	out     string
	tag     string // of HEAD, or none
	version string // as Go has it: v0.10.0, or a pseudo-version of a commit without a tag
	time    time.Time
}

func main() {
	repository := flag.String("repository", "../..", "the repository, whose HEAD is built")
	out := flag.String("out", "../../dist", "the folder for what is built, which must be empty or not exist")
	tag := flag.String("tag", "", "build as if HEAD had this tag")
	flag.Parse()
	if err := run(*repository, *out, *tag); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func run(repository, out, tag string) error {
	if held, err := filepath.Glob(filepath.Join(out, "*")); err != nil || len(held) > 0 {
		return errors.Join(err, fmt.Errorf("%s is not empty", out))
	}
	scratch, err := os.MkdirTemp("", "obscura-release")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	r := release{source: filepath.Join(scratch, "source"), out: out}
	if err := r.clone(repository, tag); err != nil {
		return err
	}
	if err := r.checkChangelog(); err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	for _, arch := range architectures {
		if err := r.binary(arch); err != nil {
			return err
		}
	}
	if err := r.readVersion(); err != nil {
		return err
	}
	for _, arch := range architectures {
		if err := errors.Join(r.bill(arch), r.deb(arch)); err != nil {
			return err
		}
	}
	if err := errors.Join(r.image(), r.moduleZip()); err != nil {
		return err
	}
	return r.checksums()
}

// clone takes the commit and not the working tree.
func (r *release) clone(repository, tag string) error {
	if dirty, err := output("", "git", "-C", repository, "status", "--porcelain", "--untracked-files=no"); err != nil {
		return err
	} else if dirty != "" {
		fmt.Fprintln(os.Stderr, "release: what is not committed is left out:\n"+dirty)
	}
	if _, err := output("", "git", "-c", "safe.directory=*", "clone", "--quiet", repository, r.source); err != nil {
		return err
	}
	if tag != "" {
		if _, err := output(r.source, "git", "tag", "--force", tag); err != nil {
			return err
		}
	}
	seconds, err := output(r.source, "git", "log", "-1", "--format=%cI")
	if err != nil {
		return err
	}
	at, err := time.Parse(time.RFC3339, seconds)
	r.time = at.UTC()
	return err
}

// checkChangelog wants a part of the changelog for the tag of HEAD, with its date.
func (r *release) checkChangelog() error {
	tag, err := output(r.source, "git", "tag", "--points-at", "HEAD")
	if err != nil || tag == "" {
		return err
	}
	changes, err := os.ReadFile(filepath.Join(r.source, "CHANGELOG.md"))
	if err != nil {
		return err
	}
	heading := "## [" + strings.TrimPrefix(tag, "v") + "] - "
	_, after, found := strings.Cut(string(changes), "\n"+heading)
	date, _, _ := strings.Cut(after, "\n")
	if _, err := time.Parse(time.DateOnly, date); !found || err != nil {
		return fmt.Errorf("CHANGELOG.md has no heading %sYYYY-MM-DD", heading)
	}
	r.tag = tag
	return nil
}

// readVersion takes the version from a binary, in which Go has written it.
func (r *release) readVersion() error {
	info, err := buildinfo.ReadFile(r.program(architectures[0]))
	if err != nil {
		return err
	}
	r.version = info.Main.Version
	if r.tag == "" {
		fmt.Fprintf(os.Stderr, "release: HEAD has no tag, so this is %s and no release\n", r.version)
	} else if r.version != r.tag {
		return fmt.Errorf("the binary says that it is %s, the tag %s", r.version, r.tag)
	}
	return nil
}

// number is the version without its v.
func (r *release) number() string { return strings.TrimPrefix(r.version, "v") }

// command is a Go command that nothing in the environment can make different, with the toolchain of
// go.mod.
func (r *release) command(environ []string, args ...string) (*exec.Cmd, error) {
	name := filepath.Join(r.source, "go.mod")
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	module, err := modfile.Parse(name, text, nil)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("go", args...)
	cmd.Dir = r.source
	cmd.Env = append(os.Environ(), "GOTOOLCHAIN="+module.Toolchain.Name, "GOFLAGS=", "GOWORK=off", "GOEXPERIMENT=",
		"GOENV=off", "GOFIPS140=off", "CGO_ENABLED=0", "GOOS=linux", "GOAMD64=v1", "GOARM64=v8.0")
	for _, name := range []string{"GOPROXY", "GOSUMDB", "GONOSUMDB", "GONOPROXY", "GOPRIVATE", "GOCACHE", "GOMODCACHE"} {
		value, err := output("", "go", "env", name) // perhaps of the file that GOENV=off passes over
		if err != nil {
			return nil, err
		}
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	cmd.Env = append(cmd.Env, environ...)
	return cmd, nil
}

func (r *release) checksums() error {
	files, err := filepath.Glob(filepath.Join(r.out, "*")) // sorted
	if err != nil {
		return err
	}
	var sums strings.Builder
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256(text), filepath.Base(file))
		fmt.Printf("%9d  %s\n", len(text), filepath.Base(file))
	}
	return os.WriteFile(filepath.Join(r.out, "SHA256SUMS"), []byte(sums.String()), 0o644)
}

// output runs a command and returns what it prints; an error has what it says.
func output(dir, name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	return outputOf(cmd)
}

func outputOf(cmd *exec.Cmd) (string, error) {
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", cmd, err, &said)
	}
	return strings.TrimSpace(string(out)), nil
}
