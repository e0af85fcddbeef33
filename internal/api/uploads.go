package api

import (
	"context"
	"errors"
	"sync"
)

// maxUploads is how many uploads a node takes at once; each holds a goroutine and a buffer of 64 KiB.
const maxUploads = 256

// Uploads are the bodies that are arriving. They are read by goroutines of their own, which the HTTP server
// does not wait for; whoever stops it does, with Shutdown and Abandon.
type Uploads struct {
	ctx    context.Context // ends when uploads are given up
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu      sync.Mutex
	running int  // guarded by mu
	closed  bool // guarded by mu: no more are taken
}

// NewUploads makes an empty set.
func NewUploads() *Uploads {
	u := &Uploads{}
	u.ctx, u.cancel = context.WithCancel(context.Background())
	return u
}

var errUploads = errors.New("too many uploads, or stopping")

func (u *Uploads) begin() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed || u.running == maxUploads {
		return false
	}
	u.running++
	u.wg.Add(1)
	return true
}

func (u *Uploads) end() {
	u.mu.Lock()
	u.running--
	u.mu.Unlock()
	u.wg.Done()
}

// Shutdown takes no more uploads and waits for those that run, until ctx ends.
func (u *Uploads) Shutdown(ctx context.Context) {
	u.mu.Lock()
	u.closed = true
	u.mu.Unlock()
	ended := make(chan struct{})
	go func() {
		u.wg.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-ctx.Done():
	}
}

// Abandon gives up those that are left and waits for their ends, which come soon: the connections are
// closed before it is called.
func (u *Uploads) Abandon() {
	u.cancel()
	u.wg.Wait()
}
