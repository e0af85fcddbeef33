package blob_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/internal/app"
	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
	"github.com/obscura-relay/obscura/internal/kit/wait"
)

func TestAnAttachmentGoesWhenItsTimeIsOver(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	database := e2e.Database(t, relay)
	device := relay.Register(t).NewDevice(t)
	old, young := e2e.Attach(t, device, e2e.Random(t, 1000)).ID.String(),
		e2e.Attach(t, device, e2e.Random(t, 500)).ID.String()
	if n := e2e.Count(t, database,
		"SELECT count(*) FROM attachments WHERE stored AND expires_at BETWEEN now() + '29 days 23 hours' AND now() + '30 days'"); n != 2 {
		t.Errorf("%d have 30 days", n)
	}
	e2e.Change(t, database, "UPDATE attachments SET expires_at = now() WHERE id = $1", old)
	// Nobody has swept yet.
	e2e.Ask{Method: "GET", Path: "/v1/attachments/" + old, Token: device.Token}.To(t, relay).Want(t, 404,
		"attachment_not_found")
	e2e.Ask{Method: "GET", Path: "/v1/attachments/" + old, Token: device.Token,
		Header: map[string]string{"If-None-Match": "*"}}.To(t, relay).Want(t, 404, "attachment_not_found")
	e2e.Ask{Method: "GET", Path: "/v1/attachments/" + young, Token: device.Token}.To(t, relay).Want(t, 200, "")
}

func TestTheQuotasOfAnAccountAreExact(t *testing.T) {
	t.Parallel()
	const mebi = 1 << 20
	relay := relaytest.Start(t, func(c *app.Config) { c.AttachmentQuota, c.AttachmentDailyQuota = 3*mebi, 2*mebi })
	database := e2e.Database(t, relay)
	user := relay.Register(t)
	one, two := user.NewDevice(t), user.NewDevice(t)
	upload := func(device *relaytest.Device, size int) e2e.Reply {
		return e2e.Ask{Method: "POST", Path: "/v1/attachments", Token: device.Token, Media: e2e.Octets,
			Body: string(e2e.Random(t, size))}.To(t, relay)
	}
	wait := func(r e2e.Reply) time.Duration {
		r.Want(t, 429, "quota_exceeded")
		seconds, _ := strconv.Atoi(r.Header.Get("Retry-After"))
		return time.Duration(seconds) * time.Second
	}
	upload(one, mebi).Want(t, 201, "")
	upload(two, mebi).Want(t, 201, "")
	untilTomorrow := time.Until(time.Now().UTC().Truncate(24 * time.Hour).Add(24 * time.Hour))
	if d := wait(upload(one, 1)); d > untilTomorrow+time.Minute || d < untilTomorrow-time.Minute {
		t.Errorf("wait %s, want %s", d, untilTomorrow)
	}
	upload(relay.Register(t).NewDevice(t), mebi).Want(t, 201, "") // somebody else
	if got := account(t, one); got.UploadedToday != 2*mebi || len(got.Attachments) != 2 {
		t.Errorf("%+v", got)
	}

	// Another day.
	e2e.Change(t, database, "UPDATE attachment_usage SET day = day - 1")
	if got := account(t, one); got.UploadedToday != 0 {
		t.Errorf("%d uploaded today", got.UploadedToday)
	}
	if d := wait(upload(one, mebi+1)); d != 24*time.Hour {
		t.Errorf("wait %s for the first to go", d)
	}
	upload(one, mebi).Want(t, 201, "")
	e2e.Change(t, database, "UPDATE attachments SET expires_at = now() + '90 minutes' WHERE id = (SELECT min(id::text)::uuid FROM attachments WHERE user_id = $1)", user.ID)
	if d := wait(upload(two, 1)); d > 90*time.Minute || d < 89*time.Minute {
		t.Errorf("wait %s for the first to go", d)
	}
	small := relay.Register(t).NewDevice(t)
	for range 32 { // each counts for 64 KiB
		upload(small, 1).Want(t, 201, "")
	}
	wait(upload(small, 1))
	if n := e2e.Count(t, database, "SELECT stored_bytes FROM attachment_usage WHERE user_id = $1",
		user.ID); n != 3*mebi {
		t.Errorf("%d bytes are counted", n)
	}
}

func account(t testing.TB, device *relaytest.Device) (out struct {
	Attachments   []struct{ Size int64 }
	UploadedToday int64
}) {
	t.Helper()
	got, err := device.GetAccountWithResponse(t.Context())
	if err != nil || got.JSON200 == nil {
		t.Fatalf("%v, %v", got, err)
	}
	out.UploadedToday = got.JSON200.UploadedToday
	for _, a := range got.JSON200.Attachments {
		out.Attachments = append(out.Attachments, struct{ Size int64 }{a.Size})
	}
	return out
}

func TestAnAccountTakesItsBlobsWithIt(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	database := e2e.Database(t, relay)
	user := relay.Register(t)
	device, other := user.NewDevice(t), relay.Register(t).NewDevice(t)
	id := e2e.Attach(t, device, e2e.Random(t, 1000)).ID.String()
	e2e.Attach(t, device, e2e.Random(t, 1000))
	kept := e2e.Attach(t, other, e2e.Random(t, 1000)).ID.String()
	e2e.BackUp(t, device, 0, e2e.Random(t, 1000)).Want(t, 200, "")
	e2e.Ask{Method: "DELETE", Path: "/v1/account", Token: device.Token,
		Body: e2e.Object("password", relaytest.Password)}.To(t, relay).Want(t, 200, "")
	e2e.Ask{Method: "GET", Path: "/v1/attachments/" + id, Token: other.Token}.To(t, relay).Want(t, 404,
		"attachment_not_found")
	wait.Eventually(t, "the blobs are gone", func() bool { return filesIn(t, relay) == 1 })
	e2e.Ask{Method: "GET", Path: "/v1/attachments/" + kept, Token: other.Token}.To(t, relay).Want(t, 200, "")
	wait.Eventually(t, "so are the rows", func() bool {
		return e2e.Count(t, database, `SELECT (SELECT count(*) FROM backups) + (SELECT count(*) FROM attachments) + (SELECT count(*) FROM attachment_usage)
			+ (SELECT count(*) FROM blob_trash)`) == 2
	})
}

func TestFilesOfTheStoreAreNobodyElses(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	e2e.Attach(t, relay.Register(t).NewDevice(t), e2e.Random(t, 10))
	folder, err := os.Stat(filepath.Join(relay.Blobs, "attachments"))
	if err != nil || folder.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", folder, err)
	}
}

func TestALostBlobIsAFailureAndNotAnEmptyAnswer(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	device := relay.Register(t).NewDevice(t)
	id := e2e.Attach(t, device, e2e.Random(t, 10)).ID
	if err := os.Remove(filepath.Join(relay.Blobs, "attachments", id.String())); err != nil {
		t.Fatal(err)
	}
	e2e.Ask{Method: "GET", Path: "/v1/attachments/" + id.String(), Token: device.Token}.To(t, relay).Want(t,
		http.StatusInternalServerError, "internal")
	e2e.Ask{Method: "GET", Path: "/v1/attachments/" + uuid.NewString(), Token: device.Token}.To(t, relay).Want(t, 404,
		"attachment_not_found")
}
