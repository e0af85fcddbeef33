package blob

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/minio/minio-go/v7"
)

// source is a body on its way into the store. It remembers whether the body failed, rather than the
// store, and ends the call when the store stands still: when it asks for no more, or does not
// finish.
type source struct {
	body  io.Reader
	watch *time.Timer
	time  time.Duration

	mu  sync.Mutex
	err error // guarded by mu: a library may read in a goroutine of its own
}

func newSource(body io.Reader, patience time.Duration, cancel context.CancelFunc) *source {
	return &source{body: body, time: patience, watch: time.AfterFunc(patience, cancel)}
}

// Read implements io.Reader. While the body is waited for the store is not to blame.
func (s *source) Read(p []byte) (int, error) {
	s.watch.Stop()
	n, err := s.body.Read(p)
	s.watch.Reset(s.time)
	if err != nil && !errors.Is(err, io.EOF) {
		s.mu.Lock()
		s.err = err
		s.mu.Unlock()
	}
	return n, err
}

func (s *source) failed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// redact says what kind of error it was. The store's own texts repeat keys, URLs and paths.
func redact(err error) error {
	var path *fs.PathError
	var number syscall.Errno
	var coded minio.ErrorResponse
	var network *net.OpError
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return errors.New("blob store: no answer in time")
	case errors.As(err, &number):
		return errors.New("blob store: " + number.Error())
	case errors.As(err, &path):
		return errors.New("blob store: cannot " + path.Op)
	case errors.As(err, &coded):
		return errors.New("blob store: " + coded.Code)
	case errors.As(err, &network):
		return errors.New("blob store: cannot " + network.Op)
	}
	return errors.New("blob store: it does not do its work")
}
