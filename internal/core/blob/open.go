package blob

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"

	"gocloud.dev/blob"
	_ "gocloud.dev/blob/fileblob" // file://
	_ "gocloud.dev/blob/memblob"  // mem://, for tests
	"gocloud.dev/blob/s3blob"     // s3://
)

// FolderURL is the URL of a store in a folder.
func FolderURL(folder string) (string, error) {
	path, err := filepath.Abs(folder)
	if err != nil {
		return "", err
	}
	return (&url.URL{Scheme: "file", Path: filepath.ToSlash(path)}).String(), nil
}

var errURL = errors.New("--blob-url must look like file:///FOLDER or s3://BUCKET?region=REGION")

// CheckURL returns an exact sentence for a URL that Open cannot take.
func CheckURL(address string) error {
	u, err := url.Parse(address)
	if err == nil && (u.Scheme == "file" && u.Path != "" || u.Scheme == s3blob.Scheme && u.Host != "" || u.Scheme == "mem") {
		return nil
	}
	return errURL
}

// Open makes a store of a URL of gocloud.dev/blob. It may be away: a bucket is asked for nothing, and a
// folder that cannot be used now is tried again with each call. A folder that does not exist is refused: its
// name may be a typing error, or the disk that it is on is not mounted.
func Open(ctx context.Context, address string) (*Store, error) {
	if err := CheckURL(address); err != nil {
		return nil, err
	}
	u, err := url.Parse(address)
	if err != nil {
		return nil, errURL
	}
	s := &Store{url: u, time: storeTime}
	bucket, err := s.opened(ctx)
	if errors.Is(err, fs.ErrNotExist) && u.Scheme == "file" {
		return nil, fmt.Errorf("the folder %s, which --blob-url (OBSCURA_BLOB_URL) names, does not exist: make it, or correct the name", folderOf(u))
	}
	if err != nil && u.Scheme != "file" {
		return nil, fmt.Errorf("the blob store cannot be opened: %w", err)
	}
	if u.Scheme == s3blob.Scheme {
		s.s3 = newS3Bucket(bucket, u)
	}
	return s, nil
}

// opened returns the bucket, which is there from the first time on that it could be opened.
func (s *Store) opened(ctx context.Context) (*blob.Bucket, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bucket != nil {
		return s.bucket, nil
	}
	u := *s.url
	if u.Scheme == "file" {
		if err := prepareFolder(&u); err != nil {
			return nil, err
		}
	}
	var err error
	s.bucket, err = blob.OpenBucket(ctx, u.String())
	return s.bucket, err
}

// folderOf is the folder of a file store.
func folderOf(u *url.URL) string {
	if u.Host == "." {
		return "." + u.Path
	}
	return u.Path
}

// prepareFolder makes the folders in that of a file store, for good, and chooses what is not chosen: files begin
// beside their places, since a file cannot be renamed from one file system to another, and there are no
// second files for attributes that we do not have.
func prepareFolder(u *url.URL) error {
	q := u.Query()
	for name, value := range map[string]string{"no_tmp_dir": "1", "metadata": "skip", "dir_file_mode": "0700"} {
		if !q.Has(name) {
			q.Set(name, value)
		}
	}
	u.RawQuery = q.Encode()
	root := folderOf(u)
	for _, folder := range []string{attachments, backups, probes} {
		if err := os.Mkdir(filepath.Join(root, folder), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("the folder of the blob store cannot be made: %w", err)
		}
	}
	return errors.Join(syncFolder(root), syncFolder(filepath.Dir(filepath.Clean(root))))
}
