package postgres

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// Find reports whether a data folder holds a cluster, and how to reach its server if a relay runs
// it: a connection string, or "". It starts nothing and changes nothing. A server that this user
// may not reach, or whose path is too long for a socket, is not found.
func Find(dataDir string) (exists bool, url string) {
	dataDir, err := filepath.Abs(dataDir)
	if err != nil {
		return false, ""
	}
	if _, err := os.Stat(filepath.Join(dataDir, "cluster")); err != nil {
		return false, ""
	}
	c := Cluster{host: filepath.Join(dataDir, "run")}
	conn, err := net.DialTimeout("unix", filepath.Join(c.host, ".s.PGSQL."+strconv.Itoa(port)), time.Second)
	if err != nil {
		return true, ""
	}
	_ = conn.Close()
	return true, c.URL()
}
