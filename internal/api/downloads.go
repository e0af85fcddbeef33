package api

import (
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/internal/core"
)

// maxDownloadsOfDevice is how many downloads a device has at once, maxDownloadsOfUser an account.
// Each holds a connection and a file, or a connection to the store, for as long as its client likes
// to read.
const (
	maxDownloadsOfDevice = 16
	maxDownloadsOfUser   = 64
)

// downloads counts those that are being sent.
type downloads struct {
	mu      sync.Mutex
	running int               // guarded by mu
	of      map[uuid.UUID]int // guarded by mu: by device and by user
}

func (d *downloads) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.running
}

// begin counts a download, or says that it is not begun. The caller calls end, once or more often.
func (d *downloads) begin(p core.Principal) (end func(), err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.of[p.Device] == maxDownloadsOfDevice || d.of[p.User] == maxDownloadsOfUser {
		return nil, limited(time.Second)
	}
	d.running++
	d.of[p.Device]++
	d.of[p.User]++
	return sync.OnceFunc(func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.running--
		for _, id := range []uuid.UUID{p.Device, p.User} {
			if d.of[id]--; d.of[id] == 0 {
				delete(d.of, id)
			}
		}
	}), nil
}
