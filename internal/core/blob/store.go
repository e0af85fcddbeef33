package blob

import (
	"context"
	"errors"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/google/uuid"
	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"

	"github.com/obscura-relay/obscura/internal/core"
)

const octets = "application/octet-stream"

// storeTime bounds a call to the store that moves no more than a few bytes, and how long one that moves
// many may stand still.
const storeTime = 15 * time.Second

// Store is where blobs are: a folder, an S3 bucket, or memory. Open it with Open.
type Store struct {
	url  *url.URL
	s3   *s3Bucket // nil when it is something else
	time time.Duration

	mu     sync.Mutex
	bucket *blob.Bucket // guarded by mu: nil as long as it could not be opened
}

// Close lets go of the store.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bucket == nil {
		return nil
	}
	return s.bucket.Close()
}

// buffers are for copying from a socket.
var buffers = sync.Pool{New: func() any { return new([64 << 10]byte) }}

// put stores size bytes of body under a key, for good, or nothing. An error of the body comes back as it is.
func (s *Store) put(ctx context.Context, key string, body io.Reader, size int64) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	source := newSource(body, s.time, cancel)
	defer source.watch.Stop()
	write := s.write
	if s.s3 != nil {
		write = s.s3.write
	}
	err := write(ctx, key, source, size)
	switch {
	case source.failed() != nil:
		return source.failed()
	case err != nil:
		return away(err)
	}
	return nil
}

// write goes through gocloud. For a file it also waits for the disk, which gocloud does not.
func (s *Store) write(ctx context.Context, key string, body io.Reader, _ int64) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	bucket, err := s.opened(ctx)
	if err != nil {
		return err
	}
	var file *os.File
	w, err := bucket.NewWriter(ctx, key, &blob.WriterOptions{ContentType: octets,
		BeforeWrite: func(as func(any) bool) error {
			if !as(&file) {
				return nil
			}
			return file.Chmod(0o600) // gocloud leaves it to the umask
		}})
	if err != nil {
		return err
	}
	buffer := buffers.Get().(*[64 << 10]byte)
	_, err = io.CopyBuffer(struct{ io.Writer }{w}, body, buffer[:])
	buffers.Put(buffer)
	if err == nil && file != nil {
		err = file.Sync()
	}
	if err != nil {
		cancel() // the writer then drops what it has
		_ = w.Close()
		return err
	}
	if err := w.Close(); err != nil || file == nil {
		return err
	}
	return syncFolder(filepath.Dir(file.Name()))
}

// syncFolder makes the names in a folder survive a power cut.
func syncFolder(path string) error {
	folder, err := os.Open(path) //nolint:gosec // a folder of the store
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// errMissing says that the store does not have a blob.
var errMissing = errors.New("the blob is not in the store")

// open opens length bytes of a blob from an offset on. It must be read within TransferTime.
func (s *Store) open(ctx context.Context, key string, offset, length int64) (*Reader, error) {
	bucket, err := s.opened(ctx)
	if err != nil {
		return nil, away(err)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), TransferTime(length))
	watch := time.AfterFunc(s.time, cancel)
	r, err := bucket.NewRangeReader(ctx, key, offset, length, nil)
	if err == nil && !watch.Stop() {
		err = errors.Join(context.DeadlineExceeded, r.Close())
	}
	if err != nil {
		watch.Stop()
		cancel()
		if gcerrors.Code(err) == gcerrors.NotFound {
			return nil, errMissing
		}
		return nil, away(err)
	}
	return &Reader{Reader: r, cancel: cancel}, nil
}

// Reader reads a blob. Close it.
type Reader struct {
	*blob.Reader
	cancel context.CancelFunc
}

// File is what is left to read when it comes from a file, which the kernel can then send by itself, else nil.
func (r *Reader) File() *io.LimitedReader {
	var raw io.Reader
	if !r.As(&raw) {
		return nil
	}
	limited, ok := raw.(*io.LimitedReader)
	if !ok {
		return nil
	}
	if _, ok := limited.R.(*os.File); !ok {
		return nil
	}
	return limited
}

// Close implements io.Closer.
func (r *Reader) Close() error {
	defer r.cancel()
	return r.Reader.Close()
}

// delete deletes a blob, and is content when there is none.
func (s *Store) delete(ctx context.Context, key string) error {
	ctx, cancel := context.WithTimeout(ctx, s.time)
	defer cancel()
	bucket, err := s.opened(ctx)
	if err == nil {
		err = bucket.Delete(ctx, key)
	}
	if err != nil && gcerrors.Code(err) != gcerrors.NotFound {
		return away(err)
	}
	return nil
}

// probe writes, reads and deletes a few bytes.
func (s *Store) probe(ctx context.Context) error {
	bucket, err := s.opened(ctx)
	if err != nil {
		return away(err)
	}
	id := uuid.New()
	key := probes + id.String()
	if err := bucket.WriteAll(ctx, key, id[:], &blob.WriterOptions{ContentType: octets}); err != nil {
		return away(err)
	}
	read, err := bucket.ReadAll(ctx, key)
	if err == nil && string(read) != string(id[:]) {
		err = errors.New("what was read is not what was written")
	}
	if err != nil {
		return away(errors.Join(err, bucket.Delete(ctx, key)))
	}
	if err := bucket.Delete(ctx, key); err != nil {
		return away(err)
	}
	return nil
}

// away is the answer when the store does not do its work. The cause is for the log, which names no blob.
func away(err error) error {
	return &core.Error{Kind: core.Unavailable, Code: "blobs_unavailable", RetryAfter: 5 * time.Second, Cause: redact(err),
		Sentence: "The store of attachments and backups is away; try again shortly."}
}
