package blob

import (
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/kit/s3test"
)

// content is large enough not to fit into the buffers on the way.
var content = strings.Repeat("0123456789abcdef", 1<<20)

// impatient lets a store stand still for a moment only.
func impatient(h *harness) *harness {
	h.cfg.Store.time = 300 * time.Millisecond
	return h
}

func TestS3KeepsWhatItIsGiven(t *testing.T) {
	t.Parallel()
	s3 := s3test.New(t)
	h := newHarness(t, s3.URL)
	p := h.user()
	a := h.upload(p, content)
	r, err := h.Download(t.Context(), a.ID, 0, int64(len(content)))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); string(got) != content || err != nil {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if r.File() != nil {
		t.Error("it is a file")
	}
	_ = r.Close()
	if r, err = h.Download(t.Context(), a.ID, 10, 5); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); string(got) != "abcde" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	_ = r.Close()
	if _, err := h.StoreBackup(t.Context(), p, 0, 32, strings.NewReader(content[:32])); err != nil {
		t.Fatal(err)
	}
	if err := h.Probe(t.Context()); err != nil {
		t.Error(err)
	}
	if keys := s3.Keys(t); len(keys) != 2 {
		t.Errorf("it holds %v", keys)
	}
	h.exec("UPDATE attachments SET expires_at = now()")
	if err := h.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.empty()
	if keys := s3.Keys(t); len(keys) != 1 {
		t.Errorf("it holds %v", keys)
	}
}

func TestAnUploadThatBreaksOffLeavesNothingInS3(t *testing.T) {
	t.Parallel()
	s3 := s3test.New(t)
	h := newHarness(t, s3.URL)
	if _, err := h.StoreAttachment(t.Context(), h.user(), int64(len(content)), broken(content[:1<<20])); !errors.Is(err,
		errBroke) {
		t.Errorf("%v", err)
	}
	h.empty()
	if keys := s3.Keys(t); len(keys) != 0 {
		t.Errorf("it holds %v", keys)
	}
}

func TestAStoreThatFailsIsAwayAndNothingIsLeft(t *testing.T) {
	t.Parallel()
	for name, mode := range map[string]s3test.Mode{"fails": s3test.Fail, "hangs": s3test.Hang, "cuts": s3test.Cut,
		"lies": s3test.Lie, "freezes": s3test.Frozen} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s3 := s3test.New(t)
			h := impatient(newHarness(t, s3.URL))
			p := h.user()
			a := h.upload(p, content[:100])
			s3.Be(mode, "")
			begun := time.Now()
			_, err := h.StoreAttachment(t.Context(), p, int64(len(content)), strings.NewReader(content))
			wantAway(t, err)
			_, err = h.StoreBackup(t.Context(), p, 0, 100, strings.NewReader(content[:100]))
			wantAway(t, err)
			r, err := h.Download(t.Context(), a.ID, 0, 100)
			wantAway(t, err)
			if r != nil {
				_ = r.Close()
			}
			if ok, err := h.emptyTrash(t.Context(), time.Second); ok || err == nil {
				t.Error("the trash was emptied")
			}
			if took := time.Since(begun); took > 15*time.Second {
				t.Errorf("that took %s", took)
			}
			if s3.Failed() < 4 {
				t.Errorf("it failed %d times", s3.Failed())
			}
			s3.Be(s3test.Fine, "")
			h.exec("UPDATE blob_trash SET due_at = now()")
			h.empty()
			if keys := s3.Keys(t); len(keys) != 1 || h.count("SELECT count(*) FROM blob_trash") != 0 {
				t.Errorf("it holds %v", keys)
			}
			if n := h.count("SELECT stored_bytes + day_bytes FROM attachment_usage"); n != 2*leastCounted {
				t.Errorf("%d bytes are counted", n)
			}
			if strings.Contains(err.Error(), a.ID.String()) {
				t.Error("the error names the blob")
			}
		})
	}
}

func wantAway(t testing.TB, err error) {
	t.Helper()
	var e *core.Error
	if !errors.As(err, &e) || e.Kind != core.Unavailable || e.Code != "blobs_unavailable" || e.RetryAfter == 0 {
		t.Errorf("%v", err)
	}
}

func TestAStoreThatCannotDeleteIsAskedAgain(t *testing.T) {
	t.Parallel()
	s3 := s3test.New(t)
	h := newHarness(t, s3.URL)
	h.upload(h.user(), content[:100])
	h.exec("UPDATE attachments SET expires_at = now()")
	s3.Be(s3test.Fail, "DELETE")
	if err := h.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if ok, err := h.emptyTrash(t.Context(), 30*time.Second); ok || err == nil {
		t.Error("it was deleted")
	}
	if n := h.count("SELECT count(*) FROM blob_trash WHERE due_at BETWEEN now() + '20 seconds' AND now() + '31 seconds'"); n != 1 {
		t.Error("it is not tried again half a minute later")
	}
	s3.Be(s3test.Fine, "")
	h.exec("UPDATE blob_trash SET due_at = now()")
	h.empty()
	if keys := s3.Keys(t); len(keys) != 0 {
		t.Errorf("it holds %v", keys)
	}
}

func TestABucketIsSharedUnderAPrefix(t *testing.T) {
	t.Parallel()
	s3 := s3test.New(t)
	h := newHarness(t, s3.URL+"&prefix=relay%2F")
	other := newHarness(t, s3.URL)
	a := h.upload(h.user(), content[:100])
	other.upload(other.user(), content[:100])
	if keys := s3.Keys(t); len(keys) != 2 || keys[1] != "relay/attachments/"+a.ID.String() {
		t.Errorf("it holds %v", keys)
	}
	var keys []string
	err := h.cfg.Store.old(t.Context(), attachments, -time.Hour, func(page []string) error {
		keys = append(keys, page...)
		return nil
	})
	if err != nil || len(keys) != 1 || keys[0] != attachments+a.ID.String() {
		t.Errorf("%v, %v", keys, err)
	}
	if err := errors.Join(h.cfg.Store.delete(t.Context(), keys[0]),
		h.cfg.Store.delete(t.Context(), keys[0])); err != nil {
		t.Errorf("%v", err)
	}
	if _, err := h.cfg.Store.open(t.Context(), keys[0], 0, 1); !errors.Is(err, errMissing) {
		t.Errorf("%v", err)
	}
	if keys := s3.Keys(t); len(keys) != 1 {
		t.Errorf("it holds %v", keys)
	}
}
