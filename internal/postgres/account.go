package postgres

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// account is who the server runs as. The zero value is whoever runs this process.
type account struct {
	drop     bool // we are root, and become uid and gid
	uid, gid uint32
}

// accountFor is the owner of an existing cluster, so that a system account that appears or goes
// does not lock us out of it, or else the account postgres, or nobody.
func accountFor(cluster string) (account, error) {
	if os.Geteuid() != 0 {
		return account{}, nil
	}
	var st unix.Stat_t
	switch err := unix.Stat(cluster, &st); {
	case err == nil && st.Uid != 0:
		return account{drop: true, uid: st.Uid, gid: st.Gid}, nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return account{}, &fs.PathError{Op: "stat", Path: cluster, Err: err}
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(err1, err2); err != nil {
			return account{}, err
		}
		return account{drop: true, uid: uint32(uid), gid: uint32(gid)}, nil
	}
	return account{}, errors.New("postgres: PostgreSQL refuses to run as root, and there is neither an account postgres nor nobody to run it as: create one, or start the relay as another user")
}

// give makes the account the owner of a folder and of all that is in it.
func (a account) give(dir string) error {
	if !a.drop {
		return nil
	}
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, int(a.uid), int(a.gid))
	})
}

// command prepares one of the programs: as the account, in a process group of its own so that a
// terminal's Ctrl-C reaches the relay alone, with a small environment, with the given folders as
// descriptors 3, 4, … and with a signal that it gets when the thread that started it ends.
func (p programs) command(ctx context.Context, a account, death syscall.Signal, dirs []*os.File, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(p.dir, name), args...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin", "LC_ALL=C", "TZ=UTC"}
	cmd.ExtraFiles = dirs
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: death}
	if a.drop {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: a.uid, Gid: a.gid}
	}
	return cmd
}
