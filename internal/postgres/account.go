package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// ownName is the account of the server, if there is one of this name.
	ownName = "obscura-postgres"
	// ownID is the user and the group of the server otherwise. No system gives this number to an
	// account by itself, and it exists in containers, which have few.
	ownID = 60915
)

// account is who the server runs as. The zero value is whoever runs this process.
type account struct {
	drop     bool // we are root, and become uid and gid
	uid, gid uint32
}

// ownAccount is an account that nothing else runs as, so that nobody but root reaches the server:
// not the account postgres, which any other PostgreSQL of this machine runs as, and not the owner
// of a folder. As root we take over only what root has made; the server's own files in it are given
// to the account.
func ownAccount(folder string) (account, error) {
	if os.Geteuid() != 0 {
		return account{}, nil
	}
	var st unix.Stat_t
	if err := unix.Stat(folder, &st); err != nil {
		return account{}, &fs.PathError{Op: "stat", Path: folder, Err: err}
	}
	if st.Uid != 0 {
		return account{}, fmt.Errorf("postgres: the data folder %s belongs to the user id %d and the relay runs as root: start the relay as that user, or give the folder to root (chown root)", folder, st.Uid)
	}
	if u, err := user.Lookup(ownName); err == nil {
		return parseAccount(u, "")
	}
	for _, taken := range []func(string) error{
		func(id string) error { _, err := user.LookupId(id); return err },
		func(id string) error { _, err := user.LookupGroupId(id); return err },
	} {
		if taken(strconv.Itoa(ownID)) == nil {
			return account{}, fmt.Errorf("postgres: the id %d, which the private PostgreSQL would run as, belongs to an account of this machine: create an account %s for it (useradd --system %[2]s)", ownID, ownName)
		}
	}
	return account{drop: true, uid: ownID, gid: ownID}, nil
}

// maker is the account that initdb runs as: it wants one that has a name. It has the group of the
// account, so no process of the same name gets at it (ptrace(2) compares both).
func (a account) maker() (account, error) {
	if !a.drop {
		return a, nil
	}
	for _, name := range []string{ownName, "nobody", "postgres"} {
		if u, err := user.Lookup(name); err == nil {
			return parseAccount(u, strconv.Itoa(int(a.gid)))
		}
	}
	return account{}, fmt.Errorf("postgres: initdb refuses to run as root, and there is neither an account %s nor nobody to run it as: create one, or start the relay as another user", ownName)
}

// parseAccount takes another group than the account's own, if one is given.
func parseAccount(u *user.User, group string) (account, error) {
	if group == "" {
		group = u.Gid
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(group, 10, 32)
	return account{drop: true, uid: uint32(uid), gid: uint32(gid)}, errors.Join(err1, err2)
}

// give makes the account the owner of a folder and of all that is in it. The folder comes last:
// whoever finds it given finds all of it given.
func (a account) give(dir string) error {
	if !a.drop {
		return nil
	}
	root, err := os.OpenRoot(dir) // no link leads out of it, whoever swaps folders meanwhile
	if err != nil {
		return err
	}
	defer root.Close()
	if err := fs.WalkDir(root.FS(), ".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || path == "." {
			return err
		}
		return root.Lchown(path, int(a.uid), int(a.gid))
	}); err != nil {
		return err
	}
	return os.Lchown(dir, int(a.uid), int(a.gid))
}

// owns reports whether a folder is the account's.
func (a account) owns(st fs.FileInfo) bool {
	sys, ok := st.Sys().(*syscall.Stat_t)
	return !a.drop || ok && sys.Uid == a.uid && sys.Gid == a.gid
}

// command prepares one of the programs: as the account, in a process group of its own so that a
// terminal's Ctrl-C reaches the relay alone, with a small environment, with the given folders as
// descriptors 3, 4, … and with a signal that it gets when the thread that started it ends.
func (p programs) command(ctx context.Context, a account, death syscall.Signal, dirs []*os.File, name string,
	args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(p.dir, name), args...) //nolint:gosec // a program of PostgreSQL
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin", "LC_ALL=C", "TZ=UTC"}
	cmd.ExtraFiles = dirs
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: death}
	if a.drop {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: a.uid, Gid: a.gid}
	}
	return cmd
}
