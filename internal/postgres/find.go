package postgres

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// Find reports whether a data folder holds a cluster, and how to reach its server if a relay runs
// it: a connection string, or "". It starts nothing and changes nothing. A server that this user
// may not reach, or whose path is too long for a socket, is not found. The error says that this
// user cannot look into the folder.
func Find(dataDir string) (exists bool, url string, err error) {
	if dataDir, err = filepath.Abs(dataDir); err != nil {
		return false, "", err
	}
	_, err = os.Stat(filepath.Join(dataDir, "cluster"))
	switch failure := (*fs.PathError)(nil); {
	case errors.Is(err, fs.ErrNotExist):
		return false, "", nil
	case errors.As(err, &failure):
		return false, "", failure.Err
	case err != nil:
		return false, "", err
	}
	c := Cluster{host: filepath.Join(dataDir, "run")}
	conn, err := net.DialTimeout("unix", filepath.Join(c.host, ".s.PGSQL."+strconv.Itoa(port)), time.Second)
	if err != nil {
		return true, "", nil
	}
	_ = conn.Close()
	return true, c.URL(), nil
}
