package api

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/obscura-relay/obscura/internal/core"
)

const (
	// maxUploads is how many uploads a node takes at once; each holds a goroutine and a buffer of
	// 64 KiB.
	maxUploads = 256
	// maxUploadsOfUser is how many of these may be one account's, so that nobody keeps out
	// everybody else.
	maxUploadsOfUser = 64
)

// RunningUploads are the bodies that are arriving. They are read by goroutines of their own, which
// the HTTP server does not wait for; whoever stops it does, with Shutdown and Abandon.
type RunningUploads struct {
	ctx    context.Context // ends when uploads are given up
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu      sync.Mutex
	running int                 // guarded by mu
	of      map[core.UserID]int // guarded by mu: how many of them are an account's
	closed  bool                // guarded by mu: no more are taken
}

// NewRunningUploads makes an empty set.
func NewRunningUploads() *RunningUploads {
	u := &RunningUploads{of: map[core.UserID]int{}}
	u.ctx, u.cancel = context.WithCancel(context.Background())
	return u
}

var errUploads = errors.New("too many uploads, or stopping")

// begin counts an upload, or says why it is not taken.
func (u *RunningUploads) begin(user core.UserID) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case u.closed || u.running == maxUploads:
		return core.Busy(errUploads)
	case u.of[user] == maxUploadsOfUser:
		return limited(time.Second)
	}
	u.running++
	u.of[user]++
	u.wg.Add(1)
	return nil
}

func (u *RunningUploads) end(user core.UserID) {
	u.mu.Lock()
	u.running--
	if u.of[user]--; u.of[user] == 0 {
		delete(u.of, user)
	}
	u.mu.Unlock()
	u.wg.Done()
}

func (u *RunningUploads) count() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.running
}

// Shutdown takes no more uploads and waits for those that run, until ctx ends.
func (u *RunningUploads) Shutdown(ctx context.Context) {
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

// Abandon gives up those that are left and waits for their ends, which come soon: the connections
// are closed before it is called.
func (u *RunningUploads) Abandon() {
	u.cancel()
	u.wg.Wait()
}
