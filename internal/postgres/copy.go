package postgres

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// copyPrograms copies the programs with their libraries and their share folder to a temporary
// folder of the account. PostgreSQL finds the two by the resolved path of its program, so a
// descriptor does not do, and it asks access(2), which knows no capabilities. The link is how the
// copy of a relay that was killed is found, and removed.
func copyPrograms(dir string, a account, link string) (programs, error) {
	if old, err := os.Readlink(link); err == nil {
		(&programs{copy: old}).remove(link)
	}
	temp, err := os.MkdirTemp("", "obscura-postgres-")
	if err != nil {
		return programs{}, err
	}
	p := programs{dir: filepath.Join(temp, "bin"), copy: temp}
	if err := p.fill(dir, a, link); err != nil {
		p.remove(link)
		return programs{}, err
	}
	return p, nil
}

func (p *programs) fill(dir string, a account, link string) error {
	if err := os.Symlink(p.copy, link); err != nil {
		return err
	}
	for _, name := range []string{"bin", "lib", "share"} {
		from := filepath.Join(filepath.Dir(dir), name)
		if name == "bin" {
			from = dir
		}
		if _, err := os.Stat(from); errors.Is(err, fs.ErrNotExist) {
			continue // they are where they were built to be
		}
		if err := os.CopyFS(filepath.Join(p.copy, name), os.DirFS(from)); err != nil {
			return err
		}
	}
	if err := a.give(p.copy); err != nil {
		return err
	}
	return os.Chmod(p.copy, 0o750) //nolint:gosec // initdb runs with the group of the account
}

// remove removes the copy, if it is one.
func (p *programs) remove(link string) {
	if p.copy == "" {
		return
	}
	// What cannot be removed costs space in a temporary folder, no more.
	_ = os.RemoveAll(p.copy)
	_ = os.Remove(link)
}
