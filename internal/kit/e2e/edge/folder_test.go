package edge_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/internal/kit/relaytest"
	"github.com/obscura-relay/obscura/internal/kit/testdb"
	"github.com/obscura-relay/obscura/internal/kit/wait"
	"github.com/obscura-relay/obscura/internal/postgres"
	"github.com/obscura-relay/obscura/internal/storage"
)

// remains lists the files below a folder that hold a text, or the ids of a sender and a recipient
// as a row of messages has them: a sequence of eight bytes between them, below 256 here, and the
// sender's device behind.
func remains(t *testing.T, folder, text string, sender *relaytest.Device,
	recipient uuid.UUID) (ciphertext, pairs []string) {
	t.Helper()
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		var data []byte
		if err == nil && entry.Type().IsRegular() {
			data, err = os.ReadFile(path)
		}
		if errors.Is(err, fs.ErrNotExist) { // the server removes files of its own
			return nil
		}
		name := strings.TrimPrefix(path, folder)
		if n := bytes.Count(data, []byte(text)); n > 0 {
			ciphertext = append(ciphertext, fmt.Sprintf("%s: %d times", name, n))
		}
		from := slices.Concat(make([]byte, 7), sender.User.ID[:], sender.ID[:])
		for rest, found := data, true; found; {
			if _, rest, found = bytes.Cut(rest, recipient[:]); len(rest) > 0 && bytes.HasPrefix(rest[1:], from) {
				pairs = append(pairs, name)
				break
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return ciphertext, pairs
}

// A thief of the whole data folder does not learn whom people talked to an hour ago.
func TestTheDataFolderForgetsAcknowledgedMail(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "postgres")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	cluster, err := postgres.Start(t.Context(), postgres.Config{DataDir: folder, BinDir: testdb.BinDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cluster.Stop(t.Context()) })
	relay := relaytest.StartOn(t, cluster.URL())
	alice, bob := relay.Register(t).NewDevice(t), relay.Register(t).NewDevice(t)
	const text = "stands for ciphertext, number "
	for i := range 30 { // some beside the row, some elsewhere
		alice.Send(t, nil, relaytest.To(bob.ID, fmt.Sprint(text, i, strings.Repeat(".", i*200))))
	}
	socket := bob.Connect(t)
	mail, _, _ := socket.Drain()
	if ciphertext, pairs := remains(t, folder, text, alice, bob.ID); len(ciphertext) == 0 || len(pairs) == 0 {
		t.Fatal("the test sees nothing: ", ciphertext, pairs)
	}
	socket.Ack(mail...)
	wait.Eventually(t, "the acknowledgements are stored", func() bool {
		got, err := bob.GetAccountWithResponse(t.Context())
		return err == nil && got.JSON200 != nil && got.JSON200.Devices[0].Mailbox.Pending == 0
	})
	ciphertext, pairs := remains(t, folder, text, alice, bob.ID)
	t.Logf("right after the acknowledgements: ciphertext in %v, pairs in %v", ciphertext, pairs)

	// What the relay does once an hour.
	d, err := storage.Open(t.Context(), cluster.URL(), storage.Options{MaxConns: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := d.Vacuum(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := postgres.Forget(t.Context(), cluster.URL()); err != nil {
		t.Fatal(err)
	}
	if ciphertext, pairs := remains(t, folder, text, alice, bob.ID); len(ciphertext) != 0 || len(pairs) != 0 {
		t.Errorf("an hour later: ciphertext in %v, pairs in %v", ciphertext, pairs)
	}

	// With an envelope that nobody fetches behind them, the pages stay, and so do bytes in them.
	carol := relay.Register(t).NewDevice(t)
	for i := range 30 {
		alice.Send(t, nil, relaytest.To(bob.ID, fmt.Sprint(text, i, strings.Repeat(".", i*200))))
	}
	alice.Send(t, nil, relaytest.To(carol.ID, "nobody fetches this"))
	socket.Ack(socket.Envelopes(30)...)
	wait.Eventually(t, "the acknowledgements are stored", func() bool {
		got, err := bob.GetAccountWithResponse(t.Context())
		return err == nil && got.JSON200 != nil && got.JSON200.Devices[0].Mailbox.Pending == 0
	})
	if err := d.Vacuum(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := postgres.Forget(t.Context(), cluster.URL()); err != nil {
		t.Fatal(err)
	}
	ciphertext, pairs = remains(t, folder, text, alice, bob.ID)
	t.Logf("with pending mail behind: ciphertext in %v, pairs in %v", ciphertext, pairs)
	for _, where := range append(ciphertext, pairs...) {
		if strings.Contains(where, "pg_wal") {
			t.Errorf("the log holds it: %s", where)
		}
	}
}
