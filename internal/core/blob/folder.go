package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sync"
	"time"
)

// folder keeps blobs as files, and never outside itself: every call goes through os.Root. A file is
// written beside its place under another name, synced, renamed, and its folder synced.
type folder struct {
	path string

	mu       sync.Mutex
	prepared bool // guarded by mu: the folders in it have been made
}

// partly is the end of the name of a file that is being written.
const partly = ".part"

// prepare makes the folders in it, once: if they are missing later, the disk that they were on is.
func (f *folder) prepare() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.prepared {
		return nil
	}
	for _, name := range []string{attachments, backups, probes} {
		if err := os.Mkdir(filepath.Join(f.path, name), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("the folder of the blob store cannot be made: %w", err)
		}
	}
	if err := errors.Join(syncFolder(f.path), syncFolder(filepath.Dir(filepath.Clean(f.path)))); err != nil {
		return err
	}
	f.prepared = true
	return nil
}

// syncFolder makes the names in a folder survive a power cut.
func syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// root opens the folder. Each call does, so that a disk that comes back is found.
func (f *folder) root() (*os.Root, error) {
	if err := f.prepare(); err != nil {
		return nil, err
	}
	return os.OpenRoot(f.path)
}

func (f *folder) put(ctx context.Context, key string, body io.Reader, _ int64) error {
	root, err := f.root()
	if err != nil {
		return err
	}
	defer root.Close()
	file, err := root.OpenFile(key+partly, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	probe := path.Dir(key)+"/" == probes // need not survive a power cut, and a busy disk syncs for seconds
	err = fill(file, body, !probe)
	if err == nil {
		err = ctx.Err() // it stood still for too long
	}
	if err == nil {
		err = root.Rename(key+partly, key)
	}
	if err != nil {
		return errors.Join(err, root.Remove(key+partly))
	}
	if probe {
		return nil
	}
	return syncFolder(filepath.Join(f.path, path.Dir(key)))
}

// buffers are for copying from a socket.
var buffers = sync.Pool{New: func() any { return new([64 << 10]byte) }}

// fill writes a file, for good if it is to last, and closes it.
func fill(file *os.File, body io.Reader, last bool) error {
	buffer := buffers.Get().(*[64 << 10]byte)
	_, err := io.CopyBuffer(struct{ io.Writer }{file}, body, buffer[:])
	buffers.Put(buffer)
	if err == nil && last {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

func (f *folder) open(_ context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	root, err := f.root()
	if err != nil {
		return nil, err
	}
	defer root.Close()
	file, err := root.Open(key)
	if err != nil {
		return nil, missing(root, key, err)
	}
	if _, err := file.Seek(offset, io.SeekStart); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &filePart{LimitedReader: io.LimitedReader{R: file, N: length}, Closer: file}, nil
}

// filePart is a part of a file.
type filePart struct {
	io.LimitedReader
	io.Closer
}

// missing tells a file that is missing from a folder that is.
func missing(root *os.Root, key string, err error) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, err := root.Stat(path.Dir(key)); err != nil {
		return err
	}
	return errMissing
}

func (f *folder) delete(_ context.Context, key string) error {
	root, err := f.root()
	if err != nil {
		return err
	}
	defer root.Close()
	if err := root.Remove(key); err != nil {
		return missing(root, key, err)
	}
	return nil
}

func (f *folder) each(ctx context.Context, prefix string, visit func(key string, changed time.Time) error) error {
	root, err := f.root()
	if err != nil {
		return err
	}
	defer root.Close()
	dir, err := root.Open(path.Clean(prefix))
	if err != nil {
		return err
	}
	defer dir.Close()
	for ctx.Err() == nil {
		entries, err := dir.ReadDir(listPage)
		for _, entry := range entries {
			info, err := entry.Info()
			if errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
				continue // deleted meanwhile, or none of ours
			}
			if err == nil {
				err = visit(prefix+entry.Name(), info.ModTime())
			}
			if err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return ctx.Err()
}
