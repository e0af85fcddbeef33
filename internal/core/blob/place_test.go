package blob

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestAnS3URLIsReadOrRefusedInASentence(t *testing.T) {
	for _, name := range []string{"AWS_REGION", "AWS_DEFAULT_REGION"} {
		t.Setenv(name, "")
	}
	for address, want := range map[string]string{
		"s3://b?region=r": "",
		"s3://b?region=r&endpoint=http://127.0.0.1:9000&use_path_style=true&prefix=a/&ssetype=aws:kms&kmskeyid=k": "",
		"s3://b":                                 "--blob-url names no region: add region=REGION, or set AWS_REGION",
		"s3://b?region=r&endpoint=s3.example":    "--blob-url: endpoint must look like https://s3.example.org",
		"s3://b?region=r&use_path_style=1":       "",
		"s3://b?region=r&use_path_style=yes":     "--blob-url: use_path_style must be true or false",
		"s3://b?region=r&ssetype=none":           "--blob-url: ssetype must be AES256 or aws:kms",
		"s3://b?region=r&awssdk=v1":              "--blob-url: there is no awssdk; there are region, endpoint, prefix, ssetype, kmskeyid, use_path_style",
		"mem://":                                 errURL.Error(),
		"s3://":                                  errURL.Error(),
		"gs://b":                                 errURL.Error(),
		"file://":                                errURL.Error(),
		"file:///a":                              "",
		"file://./a":                             "",
		"file://localhost/a":                     "",
		"file://srv/blobs":                       errHost.Error(),
		"%":                                      errURL.Error(),
		"https://b.s3.eu-west-1.amazonaws.com/x": errURL.Error(),
	} {
		got := ""
		if err := CheckURL(address); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: %q, want %q", address, got, want)
		}
	}
	t.Setenv("AWS_DEFAULT_REGION", "r")
	if err := CheckURL("s3://b"); err != nil {
		t.Errorf("a region in the environment: %v", err)
	}
}

// A disk that is not mounted any more has neither the blobs nor their folders. That is no reason to
// believe that they are gone, and none to write to the disk below.
func TestADiskThatIsGoneIsNotAnEmptyOne(t *testing.T) {
	t.Parallel()
	h := newHarness(t, "")
	a := h.upload(h.user(), content[:100])
	aside := h.folder + "-unmounted"
	if err := errors.Join(os.Rename(h.folder, aside), os.Mkdir(h.folder, 0o700)); err != nil {
		t.Fatal(err)
	}
	_, err := h.Download(t.Context(), a.ID, 0, 100)
	wantAway(t, err)
	wantAway(t, h.cfg.Store.delete(t.Context(), attachments+a.ID.String()))
	wantAway(t, h.cfg.Store.put(t.Context(), attachments+"x", strings.NewReader("x"), 1))
	if h.files() != 0 {
		t.Error("it was written to the disk below")
	}
	if err := errors.Join(os.Remove(h.folder), os.Rename(aside, h.folder)); err != nil {
		t.Fatal(err)
	}
	r, err := h.Download(t.Context(), a.ID, 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	_ = r.Close()
}

func TestAStoreListsWhatIsOldInPages(t *testing.T) {
	t.Parallel()
	h := newHarness(t, "")
	const many = listPage + 5
	for i := range many {
		name := filepath.Join(h.folder, attachments,
			strings.Repeat("x", i%7+1)+string(rune('a'+i%26))+time.Duration(i).String())
		if err := errors.Join(os.WriteFile(name, nil, 0o600),
			os.Chtimes(name, time.Time{}, time.Now().Add(-2*time.Hour))); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(h.folder, attachments, "young"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var pages []int
	var keys []string
	err := h.cfg.Store.old(t.Context(), attachments, time.Hour, func(page []string) error {
		pages, keys = append(pages, len(page)), append(keys, page...)
		return nil
	})
	slices.Sort(keys)
	if err != nil || !slices.Equal(pages, []int{listPage, 5}) || len(slices.Compact(keys)) != many ||
		slices.Contains(keys, attachments+"young") {
		t.Errorf("%v, pages of %v", err, pages)
	}
	errStop := errors.New("stop")
	if err := h.cfg.Store.old(t.Context(), attachments, time.Hour, func([]string) error {
		return errStop
	}); !errors.Is(err, errStop) {
		t.Errorf("%v", err)
	}
}
