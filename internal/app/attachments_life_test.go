package app_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/internal/app"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

func TestAnAttachmentGoesWhenItsTimeIsOver(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	database := openDatabase(t, relay)
	device := relay.Register(t).NewDevice(t)
	old, young := attach(t, device, random(t, 1000)).ID.String(), attach(t, device, random(t, 500)).ID.String()
	if n := count(t, database, "SELECT count(*) FROM attachments WHERE stored AND expires_at BETWEEN now() + '29 days 23 hours' AND now() + '30 days'"); n != 2 {
		t.Errorf("%d have 30 days", n)
	}
	changeRows(t, database, "UPDATE attachments SET expires_at = now() WHERE id = $1", old)
	// Nobody has swept yet.
	ask{method: "GET", path: "/v1/attachments/" + old, token: device.Token}.to(t, relay).want(t, 404, "attachment_not_found")
	ask{method: "GET", path: "/v1/attachments/" + old, token: device.Token, header: map[string]string{"If-None-Match": "*"}}.to(t, relay).want(t, 404, "attachment_not_found")
	ask{method: "GET", path: "/v1/attachments/" + young, token: device.Token}.to(t, relay).want(t, 200, "")
}

func TestTheQuotasOfAnAccountAreExact(t *testing.T) {
	t.Parallel()
	const mebi = 1 << 20
	relay := relaytest.Start(t, func(c *app.Config) { c.AttachmentQuota, c.AttachmentDailyQuota = 3*mebi, 2*mebi })
	database := openDatabase(t, relay)
	user := relay.Register(t)
	one, two := user.NewDevice(t), user.NewDevice(t)
	upload := func(device *relaytest.Device, size int) reply {
		return ask{method: "POST", path: "/v1/attachments", token: device.Token, media: octets, body: string(random(t, size))}.to(t, relay)
	}
	wait := func(r reply) time.Duration {
		r.want(t, 429, "quota_exceeded")
		seconds, _ := strconv.Atoi(r.header.Get("Retry-After"))
		return time.Duration(seconds) * time.Second
	}
	upload(one, mebi).want(t, 201, "")
	upload(two, mebi).want(t, 201, "")
	untilTomorrow := time.Until(time.Now().UTC().Truncate(24 * time.Hour).Add(24 * time.Hour))
	if d := wait(upload(one, 1)); d > untilTomorrow+time.Minute || d < untilTomorrow-time.Minute {
		t.Errorf("wait %s, want %s", d, untilTomorrow)
	}
	upload(relay.Register(t).NewDevice(t), mebi).want(t, 201, "") // somebody else
	if got := account(t, one); got.UploadedToday != 2*mebi || len(got.Attachments) != 2 {
		t.Errorf("%+v", got)
	}

	// Another day.
	changeRows(t, database, "UPDATE attachment_usage SET day = day - 1")
	if got := account(t, one); got.UploadedToday != 0 {
		t.Errorf("%d uploaded today", got.UploadedToday)
	}
	if d := wait(upload(one, mebi+1)); d != 24*time.Hour {
		t.Errorf("wait %s for the first to go", d)
	}
	upload(one, mebi).want(t, 201, "")
	changeRows(t, database, "UPDATE attachments SET expires_at = now() + '90 minutes' WHERE id = (SELECT min(id::text)::uuid FROM attachments WHERE user_id = $1)", user.ID)
	if d := wait(upload(two, 1)); d > 90*time.Minute || d < 89*time.Minute {
		t.Errorf("wait %s for the first to go", d)
	}
	small := relay.Register(t).NewDevice(t)
	for range 32 { // each counts for 64 KiB
		upload(small, 1).want(t, 201, "")
	}
	wait(upload(small, 1))
	if n := count(t, database, "SELECT stored_bytes FROM attachment_usage WHERE user_id = $1", user.ID); n != 3*mebi {
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
	database := openDatabase(t, relay)
	user := relay.Register(t)
	device, other := user.NewDevice(t), relay.Register(t).NewDevice(t)
	id := attach(t, device, random(t, 1000)).ID.String()
	attach(t, device, random(t, 1000))
	kept := attach(t, other, random(t, 1000)).ID.String()
	backUp(t, device, 0, random(t, 1000)).want(t, 200, "")
	ask{method: "DELETE", path: "/v1/account", token: device.Token, body: object("password", relaytest.Password)}.to(t, relay).want(t, 200, "")
	ask{method: "GET", path: "/v1/attachments/" + id, token: other.Token}.to(t, relay).want(t, 404, "attachment_not_found")
	relaytest.Eventually(t, "the blobs are gone", func() bool { return filesIn(t, relay) == 1 })
	ask{method: "GET", path: "/v1/attachments/" + kept, token: other.Token}.to(t, relay).want(t, 200, "")
	relaytest.Eventually(t, "so are the rows", func() bool {
		return count(t, database, `SELECT (SELECT count(*) FROM backups) + (SELECT count(*) FROM attachments) + (SELECT count(*) FROM attachment_usage)
			+ (SELECT count(*) FROM blob_trash)`) == 2
	})
}

func TestFilesOfTheStoreAreNobodyElses(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	attach(t, relay.Register(t).NewDevice(t), random(t, 10))
	folder, err := os.Stat(filepath.Join(relay.Blobs, "attachments"))
	if err != nil || folder.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", folder, err)
	}
}

func TestALostBlobIsAFailureAndNotAnEmptyAnswer(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	device := relay.Register(t).NewDevice(t)
	id := attach(t, device, random(t, 10)).ID
	if err := os.Remove(filepath.Join(relay.Blobs, "attachments", id.String())); err != nil {
		t.Fatal(err)
	}
	ask{method: "GET", path: "/v1/attachments/" + id.String(), token: device.Token}.to(t, relay).want(t, http.StatusInternalServerError, "internal")
	ask{method: "GET", path: "/v1/attachments/" + uuid.NewString(), token: device.Token}.to(t, relay).want(t, 404, "attachment_not_found")
}
