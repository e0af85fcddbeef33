package blob

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path/filepath"
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

// errHost: file://srv/blobs is the folder /blobs of a machine named srv.
var errHost = errors.New("--blob-url names a folder with three slashes, file:///FOLDER: after two there is a host name, and the folder has to be on this machine")

// CheckURL returns an exact sentence for a URL that Open cannot take.
func CheckURL(address string) error {
	u, err := url.Parse(address)
	switch {
	case err == nil && u.Scheme == "file" && u.Path != "" && u.Host != "" && u.Host != "." && u.Host != "localhost":
		return errHost
	case err == nil && u.Scheme == "file" && u.Path != "":
		return nil
	case err == nil && u.Scheme == "s3" && u.Host != "":
		_, err = optionsOf(u)
		return err
	}
	return errURL
}

// Open makes a store of a URL. The store may be unavailable: a bucket is asked for nothing, and a
// folder that cannot be used now is tried again with each call. A folder that does not exist is
// refused: its name may be a typing error, or the disk that it is on is not mounted.
func Open(address string) (*Store, error) {
	if err := CheckURL(address); err != nil {
		return nil, err
	}
	u, err := url.Parse(address)
	if err != nil {
		return nil, errURL
	}
	if u.Scheme == "s3" {
		b, err := openBucket(u)
		if err != nil {
			return nil, fmt.Errorf("the blob store cannot be opened: %w", err)
		}
		return &Store{place: b, time: storeTime}, nil
	}
	f := &folder{path: folderOf(u)}
	if err := f.prepare(); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the folder %s, which --blob-url (OBSCURA_BLOB_URL) names, does not exist: make it, or correct the name", f.path)
	}
	return &Store{place: f, time: storeTime}, nil
}

// folderOf is the folder of a file URL. file://./blobs is relative to the working folder.
func folderOf(u *url.URL) string {
	if u.Host == "." {
		return "." + u.Path
	}
	return u.Path
}
