package testdb

import (
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

const (
	memory       = "/dev/shm"
	folderPrefix = "obscura-testdb-"
	// room is what must be free in memory: clusters of our tests have taken up to 600 MB.
	room = 2 << 30
)

// folder is where the private cluster goes: into memory if there is room, since a file system on a
// disk takes most of the time of a test that makes 300 files and removes them. Empty means the
// folder for temporary files.
func folder() string {
	forgotten, _ := filepath.Glob(filepath.Join(memory, folderPrefix+"*"))
	for _, dir := range forgotten {
		forget(dir)
	}
	var there unix.Statfs_t
	if err := unix.Statfs(memory, &there); err != nil || there.Bavail*uint64(there.Bsize) < room {
		return ""
	}
	if unix.Access(memory, unix.W_OK) != nil {
		return ""
	}
	return memory
}

// forget removes the cluster of a test binary that was killed. One that runs holds a lock.
func forget(dir string) {
	lock, err := os.Open(filepath.Join(dir, "lock"))
	if err != nil {
		return
	}
	defer func() { _ = lock.Close() }()
	st, err := lock.Stat()
	if err != nil || time.Since(st.ModTime()) < time.Minute { // the owner of a new one may not have locked it yet
		return
	}
	if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
		_ = os.RemoveAll(dir)
	}
}
