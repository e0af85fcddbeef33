package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/obscura-relay/obscura/internal/core/blob"
)

const mib = 1 << 20

// machine looks at memory and descriptors.
func (d *doctor) machine() {
	if free, err := freeMemory(); err == nil {
		d.say("memory", level(int64(free), int64(d.cfg.ReserveMemory), 4*int64(d.cfg.ReserveMemory)),
			fmt.Sprintf("%d MiB free", int64(free)/mib),
			"give it more, or a larger limit; an idle socket takes some 20 KiB, a log-in 19 MiB while it lasts")
	}
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err == nil {
		d.say("descriptors", level(files.Max, 1024, 10_000),
			fmt.Sprintf("%d for this command; a service has its own limit", files.Max),
			"each connection needs one: raise the limit (systemd: LimitNOFILE)")
	}
}

// folders looks at the data folder and the disks.
func (d *doctor) folders() {
	ours := d.cfg.DatabaseURL == "" || d.cfg.BlobURL == ""
	if ours {
		const advice = "name the folder with --data-dir (OBSCURA_DATA_DIR), and give it to the user that runs the relay, mode 700"
		switch info, err := os.Stat(d.cfg.DataDir); {
		case errors.Is(err, fs.ErrNotExist):
			d.say("data folder", StateWarning, "there is no folder "+d.cfg.DataDir+" yet; the relay makes it at its start",
				"if the relay has run before: "+advice)
		case err != nil:
			d.say("data folder", StateProblem, err.Error(), advice)
		case foreign(info):
			d.say("data folder", StateWarning, d.cfg.DataDir+" belongs to another user than the one that runs this command",
				asOwner)
		case info.Mode().Perm()&0o077 != 0:
			d.say("data folder", StateWarning, fmt.Sprintf("%s has the mode %o: others may look into it", d.cfg.DataDir,
				info.Mode().Perm()), advice)
		default:
			d.judge("data folder", unix.Access(d.cfg.DataDir, unix.W_OK), d.cfg.DataDir+" may be written to", advice)
		}
		d.disk("disk of the data folder", d.cfg.DataDir)
	}
	if u, err := url.Parse(d.cfg.BlobURL); err == nil && u.Scheme == "file" {
		d.disk("disk of the blobs", u.Path)
	}
}

const asOwner = "run the doctor as the user that runs the relay; docs/operations.md has the command for a service"

// foreign reports that a folder belongs to another user than this process runs as.
func foreign(info fs.FileInfo) bool {
	of, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(of.Uid) != os.Geteuid()
}

func (d *doctor) disk(part, folder string) {
	var there unix.Statfs_t
	if unix.Statfs(folder, &there) != nil {
		return // the folder itself is spoken of elsewhere
	}
	free, total := there.Bavail*uint64(there.Bsize), there.Blocks*uint64(there.Bsize) //nolint:gosec // no disk has a negative one
	d.say(part, max(level(free, 512*mib, 4096*mib), level(free, total/50, total/10)),
		fmt.Sprintf("%d MiB free of %d MiB", free/mib, total/mib),
		"make room before it is full: then nothing more is accepted")
}

func (d *doctor) blobs(ctx context.Context) {
	const advice = "check --blob-url (OBSCURA_BLOB_URL), and that this user may write there; AWS_* for S3"
	folder := filepath.Join(d.cfg.DataDir, "blobs")
	if u, err := url.Parse(d.cfg.BlobURL); d.cfg.BlobURL != "" {
		if folder = ""; err == nil && u.Scheme == "file" {
			folder = u.Path
		}
	}
	switch info, err := os.Stat(folder); {
	case folder == "": // in no folder
	case err != nil && d.cfg.BlobURL == "": // nothing is made here
		d.say("blobs", StateOK, "there is no store yet; the relay makes it at its start", "")
		return
	case err == nil && foreign(info): // what is made in it would not be the relay's
		d.say("blobs", StateWarning, folder+" belongs to another user; it was not looked at", asOwner)
		return
	}
	address, err := d.cfg.blobURL()
	if err == nil {
		var store *blob.Store
		if store, err = blob.Open(address); err == nil {
			ctx, cancel := context.WithTimeout(ctx, askTime)
			defer cancel()
			err = blob.New(blob.Config{Store: store}).Probe(ctx)
		}
	}
	d.judge("blobs", causeOf(err), "a blob can be written, read and deleted", advice)
}
