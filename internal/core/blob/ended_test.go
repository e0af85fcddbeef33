package blob

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/obscura-relay/obscura/internal/core"
)

// A session ends while its upload is on its way: nothing of it is kept.
func TestAnUploadOfASessionThatHasEndedIsThrownAway(t *testing.T) {
	t.Parallel()
	h := newHarness(t, "")
	body := bytes.Repeat([]byte("x"), 100)
	for name, upload := range map[string]func(p core.Principal, body io.Reader) error{
		"attachment": func(p core.Principal, body io.Reader) error {
			_, err := h.StoreAttachment(t.Context(), p, 100, body)
			return err
		},
		"backup": func(p core.Principal, body io.Reader) error {
			_, err := h.StoreBackup(t.Context(), p, 0, 100, body)
			return err
		},
	} {
		p := h.user()
		ending := readerFunc(func([]byte) (int, error) {
			h.exec("DELETE FROM sessions WHERE id = $1", p.Session)
			return 0, io.EOF
		})
		if err := upload(p, io.MultiReader(bytes.NewReader(body), ending)); !errors.Is(err, core.ErrUnauthorized) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := h.count("SELECT count(*) FROM attachments") +
		h.count("SELECT count(*) FROM backups WHERE blob IS NOT NULL"); n != 0 {
		t.Errorf("%d blobs are kept", n)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
