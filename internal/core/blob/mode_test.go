package blob

import (
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

func TestFilesAreTheirOwnersAlone(t *testing.T) {
	t.Parallel()
	h := newHarness(t, "")
	if err := h.cfg.Store.put(t.Context(), attachments+"mode", strings.NewReader("ciphertext"), 10); err != nil {
		t.Fatal(err)
	}
	files := 0
	err := filepath.WalkDir(h.folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == h.folder { // the test made the folder itself
			return err
		}
		info, err := entry.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", entry.Name(), info.Mode())
		}
		if entry.Type().IsRegular() {
			files++
		}
		return err
	})
	if err != nil || files != 1 {
		t.Errorf("%d files, %v", files, err)
	}
}
