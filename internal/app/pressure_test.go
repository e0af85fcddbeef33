package app_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/obscura-relay/obscura/gen/obscurapb"
	"github.com/obscura-relay/obscura/internal/app"
	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/prekeytest"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
	"github.com/obscura-relay/obscura/internal/kit/testdb"
	"github.com/obscura-relay/obscura/internal/kit/wait"
)

// levels are the words of /readyz, each of which stands for those before it as well.
var levels = []string{"none", "accounts", "log-ins", "uploads", "sends"}

// awaitLevel waits until something or nothing is refused. A node that refuses is ready.
func awaitLevel(t *testing.T, relay *relaytest.Relay, level string) {
	t.Helper()
	wait.Eventually(t, "refused: "+level, func() bool {
		status, parts := e2e.Readiness(t, relay)
		return status == 200 && parts["refused"] == level
	})
}

func TestPressureRefusesInOrder(t *testing.T) {
	t.Parallel()
	const reserve = 1 << 30
	var free atomic.Int64
	var broken atomic.Bool
	free.Store(2 * reserve)
	disk := app.WithDisk(func(string) (float64, error) {
		if broken.Load() {
			return 0, errors.New("the disk does not say")
		}
		return float64(free.Load()), nil
	})
	relay := relaytest.StartWith(t, testdb.NewURL(t), []app.Option{disk},
		func(cfg *app.Config) { cfg.ReserveDisk = reserve })
	alice, bob := relay.Register(t), relay.Register(t)
	from, to := alice.NewDevice(t), bob.NewDevice(t)
	token := to.NewDeliveryToken(t)
	socket := to.Connect(t)
	socket.Drain()

	for level, name := range levels {
		free.Store(reserve >> level * 9 / 8) // reserve/2 and less refuses log-ins, and so on
		awaitLevel(t, relay, name)
		// A status of success below the level, 503 from it on.
		want := func(what string, from, status, got int, code string) {
			t.Helper()
			if level >= from && (got != 503 || code != "overloaded") || level < from && got != status {
				t.Errorf("refused: %s: %s answers %d %s", name, what, got, code)
			}
		}
		said := func(what string, from, status int, ask e2e.Ask) {
			t.Helper()
			got := ask.To(t, relay)
			code := ""
			if got.Status == 503 {
				if code = got.Member(t, "code"); got.Header.Get("Retry-After") != "10" {
					t.Errorf("%s: Retry-After: %q", what, got.Header.Get("Retry-After"))
				}
			}
			want(what, from, status, got.Status, code)
		}
		sealed := func() (int, string) {
			status, answer := relay.TrySealed(t, uuid.New(), &obscurapb.SendMessageRequest{
				Messages: []*obscurapb.Submission{relaytest.Sealed(to.ID, "sealed", token)}})
			return status, e2e.RefusalOf(status, answer).Code
		}
		said("a registration", 1, 201, e2e.Register("new_"+strings.ReplaceAll(name, "-", "_"), relaytest.Password))
		said("a log-in", 2, 200, e2e.LogIn(alice.Name, relaytest.Password))
		identity := prekeytest.NewIdentity()
		device, err := alice.CreateDeviceWithResponse(t.Context(), identity.NewDevice(1, 1))
		if err != nil {
			t.Fatal(err)
		}
		want("a device", 3, 201, device.StatusCode(), e2e.RefusalOf(device.StatusCode(), device.Body).Code)
		attachment, err := from.UploadAttachmentWithBodyWithResponse(t.Context(), e2e.Octets,
			bytes.NewReader(e2e.Random(t, 100_000)))
		if err != nil {
			t.Fatal(err)
		}
		want("an attachment", 3, 201, attachment.StatusCode(),
			e2e.RefusalOf(attachment.StatusCode(), attachment.Body).Code)
		backup := e2e.BackUp(t, from, level, e2e.Random(t, 100))
		want("a backup", 3, 200, backup.Status, e2e.RefusalOf(backup.Status, backup.Body).Code)
		for _, size := range []int{10, 100_000} {
			status, answer := from.TrySend(t, nil, relaytest.To(to.ID, strings.Repeat("x", size)))
			want("a message", 4, 200, status, e2e.RefusalOf(status, answer).Code)
		}
		status, code := sealed()
		want("a sealed message", 4, 200, status, code)

		// What never gives way.
		if level < 4 {
			socket.Ack(socket.Envelopes(3)...)
		}
		e2e.Pending(t, e2e.Database(t, relay), to.ID, 0)
		refreshed := e2e.Refresh(bob.Refresh).To(t, relay).Want(t, 200, "")
		bob.Refresh = refreshed.Member(t, "refreshToken")
		e2e.FetchBundles(t, from, bob.ID)
		again := to.Connect(t)
		again.Drain()
		socket = again
	}
	if got := metric(t, relay, `obscura_pressure{resource="disk_of_blobs"}`); got != "4" {
		t.Errorf("the metric says %q", got)
	}
	if log := relay.Log.String(); !strings.Contains(log, `"resource":"disk_of_blobs","free":"`) ||
		!strings.Contains(log, `MiB","refused":"sends"`) {
		t.Error("the log does not say what is short")
	}

	// What is known stays while the disk does not say; deletions go on.
	broken.Store(true)
	free.Store(2 * reserve)
	wait.Eventually(t, "the log says that it is not known",
		func() bool { return strings.Contains(relay.Log.String(), "could not find out how much is free") })
	e2e.Register("not_now", relaytest.Password).To(t, relay).Want(t, 503, "overloaded")
	e2e.Ask{Method: "DELETE", Path: "/v1/devices/" + from.ID.String(), Token: alice.Token}.To(t, relay).Want(t, 200, "")
	e2e.Ask{Method: "DELETE", Path: "/v1/account", Token: alice.Token,
		Body: e2e.Object("password", relaytest.Password)}.To(t, relay).Want(t, 200, "")
	broken.Store(false)
	awaitLevel(t, relay, "none")
	e2e.Register("now", relaytest.Password).To(t, relay).Want(t, 201, "")
}

// What a relay refuses on a disk that is really full leaves room for acknowledgements, and its
// database alive.
func TestSmallDiskFillsAndEmpties(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounts a disk") //nolint:forbidigo // needs root, which CI is
	}
	t.Parallel()
	folder := t.TempDir()
	if err := unix.Mount("tmpfs", folder, "tmpfs", 0, "size=500m,mode=755"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(folder, 0); err != nil {
			t.Error(err)
		}
	})
	relay := relaytest.StartOn(t, "", func(cfg *app.Config) {
		cfg.DataDir, cfg.BlobURL, cfg.ReserveDisk = filepath.Join(folder, "data"), "", 320<<20
	})
	user := relay.Register(t)
	from, to := user.NewDevice(t), user.NewDevice(t)
	socket := to.Connect(t)
	socket.Drain()
	sent := 0
	for message := strings.Repeat("x", 250<<10); ; sent++ {
		status, answer := from.TrySend(t, nil, relaytest.To(to.ID, message))
		if status != 200 {
			if refusal := e2e.RefusalOf(status, answer); refusal.Code != "overloaded" {
				t.Fatalf("after %d messages: %d %s", sent, status, answer)
			}
			break
		}
	}
	t.Logf("%d messages of 250 KiB fitted; free: %s", sent, metric(t, relay, `obscura_free{resource="disk_of_database"}`))
	if sent < 100 {
		t.Errorf("only %d messages were taken", sent)
	}
	e2e.Register("not_now", relaytest.Password).To(t, relay).Want(t, 503, "overloaded")
	e2e.LogIn(user.Name, relaytest.Password).To(t, relay).Want(t, 503, "overloaded")
	if status, parts := e2e.Readiness(t, relay); status != 200 {
		t.Errorf("with a full disk: %d %v", status, parts)
	}
	for got := 0; got < sent; got++ {
		socket.Ack(socket.Envelopes(1)...)
	}
	wait.Eventually(t, "all is acknowledged", func() bool {
		return metric(t, relay, "obscura_envelopes_acknowledged_total") ==
			metric(t, relay, "obscura_envelopes_accepted_total")
	})
	// The log of the database goes with a checkpoint, and the table with a vacuum.
	database := e2e.Database(t, &relaytest.Relay{DatabaseURL: "postgres://obscura@/obscura?host=" +
		filepath.Join(folder, "data", "postgres", "run")})
	wait.Eventually(t, "nothing is refused", func() bool {
		for _, step := range []string{"VACUUM FULL messages", "CHECKPOINT"} { // a plain VACUUM does so if it can
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			_, err := database.Exec(ctx, step)
			cancel()
			if err != nil {
				t.Error(err)
			}
		}
		_, parts := e2e.Readiness(t, relay)
		return parts["refused"] == "none"
	})
	database.Close()
	if failed := from.Send(t, nil, relaytest.To(to.ID, "there is room")); len(failed) != 0 {
		t.Error(failed)
	}
	relay.Stop()
}
