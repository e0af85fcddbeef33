package blob

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/internal/core"
)

const octets = "application/octet-stream"

// storeTime bounds a call to the store that moves no more than a few bytes, and how long one that
// moves many may stand still.
const storeTime = 15 * time.Second

// listPage is how many blobs are asked for at once.
const listPage = 1000

// errMissing says that the store does not have a blob.
var errMissing = errors.New("the blob is not in the store")

// place is where the bytes are: a folder or a bucket. Keys are of our own making.
type place interface {
	// put stores size bytes of body for good, or nothing.
	put(ctx context.Context, key string, body io.Reader, size int64) error
	// open opens length bytes, at least one, from an offset on. errMissing says that there is no
	// such blob.
	open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error)
	// delete deletes a blob. It may say errMissing.
	delete(ctx context.Context, key string) error
	// each visits the blobs whose keys begin with prefix.
	each(ctx context.Context, prefix string, visit func(key string, changed time.Time) error) error
}

// Store is a place whose calls end in time and whose errors name no blob. Open it with Open.
type Store struct {
	place place
	time  time.Duration
}

// Folder is where the bytes are, "" in a bucket.
func (s *Store) Folder() string {
	if f, ok := s.place.(*folder); ok {
		return f.path
	}
	return ""
}

// put stores size bytes of body under a key, for good, or nothing. An error of the body comes back
// as it is.
func (s *Store) put(ctx context.Context, key string, body io.Reader, size int64) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	source := newSource(body, s.time, cancel)
	defer source.watch.Stop()
	err := s.place.put(ctx, key, source, size)
	switch {
	case source.failed() != nil:
		return source.failed()
	case err != nil:
		return unavailable(err)
	}
	return nil
}

// open opens length bytes of a blob from an offset on. It must be read within TransferTime.
func (s *Store) open(ctx context.Context, key string, offset, length int64) (*Reader, error) {
	if length == 0 {
		return &Reader{ReadCloser: io.NopCloser(strings.NewReader("")), cancel: func() {}}, nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), TransferTime(length))
	watch := time.AfterFunc(s.time, cancel)
	r, err := s.place.open(ctx, key, offset, length)
	if err == nil && !watch.Stop() {
		err = errors.Join(context.DeadlineExceeded, r.Close())
	}
	if err != nil {
		watch.Stop()
		cancel()
		if errors.Is(err, errMissing) {
			return nil, errMissing
		}
		return nil, unavailable(err)
	}
	return &Reader{ReadCloser: r, cancel: cancel}, nil
}

// Reader reads a blob. Close it.
type Reader struct {
	io.ReadCloser
	cancel context.CancelFunc
}

// File is what is left to read when it comes from a file, which the kernel can then send by itself,
// else nil.
func (r *Reader) File() *io.LimitedReader {
	if part, ok := r.ReadCloser.(*filePart); ok {
		return &part.LimitedReader
	}
	return nil
}

// Close implements io.Closer.
func (r *Reader) Close() error {
	defer r.cancel()
	return r.ReadCloser.Close()
}

// delete deletes a blob, and is content when there is none.
func (s *Store) delete(ctx context.Context, key string) error {
	ctx, cancel := context.WithTimeout(ctx, s.time)
	defer cancel()
	if err := s.place.delete(ctx, key); err != nil && !errors.Is(err, errMissing) {
		return unavailable(err)
	}
	return nil
}

// old lists the blobs whose keys begin with prefix and that are older than age, in pages.
func (s *Store) old(ctx context.Context, prefix string, age time.Duration, take func(keys []string) error) error {
	listing, cancel := context.WithCancel(ctx)
	defer cancel()
	watch := time.AfterFunc(s.time, cancel)
	defer watch.Stop()
	var keys []string
	var taken error
	err := s.place.each(listing, prefix, func(key string, changed time.Time) error {
		watch.Stop() // the store is not to blame for what takes our time
		defer watch.Reset(s.time)
		if time.Since(changed) > age {
			keys = append(keys, key)
		}
		if len(keys) == listPage {
			taken, keys = take(keys), nil
		}
		return taken
	})
	switch {
	case taken != nil:
		return taken
	case err != nil:
		return unavailable(err)
	}
	return take(keys)
}

// probe writes, reads and deletes a few bytes.
func (s *Store) probe(ctx context.Context) error {
	id := uuid.New()
	key := probes + id.String()
	if err := s.put(ctx, key, strings.NewReader(string(id[:])), int64(len(id))); err != nil {
		return err
	}
	r, err := s.open(ctx, key, 0, int64(len(id)))
	if err != nil {
		return errors.Join(err, s.delete(ctx, key))
	}
	read, err := io.ReadAll(r)
	err = errors.Join(err, r.Close())
	if err == nil && string(read) != string(id[:]) {
		err = errors.New("what was read is not what was written")
	}
	if err != nil {
		return errors.Join(unavailable(err), s.delete(ctx, key))
	}
	return s.delete(ctx, key)
}

// unavailable is the answer when the store does not do its work. The cause is for the log, which
// names no blob.
func unavailable(err error) error {
	return &core.Error{Kind: core.Unavailable, Code: "blobs_unavailable", RetryAfter: 5 * time.Second,
		Cause:    redact(err),
		Sentence: "The store of attachments and backups is unavailable; try again shortly."}
}
