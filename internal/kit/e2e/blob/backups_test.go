package blob_test

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/prekeytest"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
	"github.com/obscura-relay/obscura/internal/kit/wait"
)

// wantBackup fails the test unless a device has this backup.
func wantBackup(t testing.TB, device *relaytest.Device, version int, content []byte) {
	t.Helper()
	got, err := device.DownloadBackupWithResponse(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if tag := got.HTTPResponse.Header.Get("ETag"); got.StatusCode() != http.StatusOK ||
		tag != fmt.Sprintf(`"%d"`, version) || !bytes.Equal(got.Body, content) {
		t.Errorf("status %d, version %s, %d bytes; want version %d", got.StatusCode(), tag, len(got.Body), version)
	}
}

func TestABackupIsVersioned(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	device := relay.Register(t).NewDevice(t)
	e2e.Ask{Method: "GET", Path: "/v1/backup", Token: device.Token}.To(t, relay).Want(t, 404, "backup_not_found")
	e2e.Ask{Method: "HEAD", Path: "/v1/backup", Token: device.Token}.To(t, relay).Want(t, 404, "")
	for version := 1; version <= 3; version++ {
		content := e2e.Random(t, 1000*version)
		e2e.BackUp(t, device, version, content).Want(t, 412, "precondition_failed")
		e2e.BackUp(t, device, version-1, content).Want(t, 200, "")
		wantBackup(t, device, version, content)
		head, err := device.HeadBackupWithResponse(t.Context())
		if err != nil || head.HTTPResponse.ContentLength != int64(len(content)) ||
			head.HTTPResponse.Header.Get("ETag") != fmt.Sprintf(`"%d"`, version) {
			t.Errorf("%v, %v", head, err)
		}
		e2e.BackUp(t, device, version-1, content).Want(t, 412, "precondition_failed")
		e2e.BackUp(t, device, 0, content).Want(t, 412, "precondition_failed")
		for header, status := range map[string]int{fmt.Sprintf(`"%d"`, version): 304,
			fmt.Sprintf(`"x", W/"%d"`, version): 304, "*": 304, `"0"`: 200} {
			e2e.Ask{Method: "GET", Path: "/v1/backup", Token: device.Token,
				Header: map[string]string{"If-None-Match": header}}.To(t, relay).Want(t, status, "")
		}
	}
	wait.Eventually(t, "the old versions are gone", func() bool { return filesIn(t, relay) == 1 })
}

func TestABackupNeedsExactlyOneCondition(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	device := relay.Register(t).NewDevice(t)
	e2e.BackUp(t, device, 0, e2e.Random(t, 32)).Want(t, 200, "")
	for name, header := range map[string]map[string]string{
		"none": {}, "both": {"If-Match": `"1"`, "If-None-Match": "*"},
		"a version that it must not have": {"If-None-Match": `"1"`},
		"any version":                     {"If-Match": "*"}, "without quotes": {"If-Match": "1"}, "weak": {"If-Match": `W/"1"`},
		"a list": {"If-Match": `"1", "2"`}, "empty": {"If-Match": ``}, "an empty version": {"If-Match": `""`},
	} {
		got := e2e.Ask{Method: "POST", Path: "/v1/backup", Token: device.Token, Media: e2e.Octets,
			Body: strings.Repeat("x", 32), Header: header}.To(t, relay)
		if got.Status != http.StatusBadRequest || got.Code != "invalid_condition" {
			t.Errorf("%s: status %d, code %q", name, got.Status, got.Code)
		}
	}
	for _, never := range []string{`"0"`, `"01"`, `"-1"`, `"+1"`, `"99999999999999999999"`, `"other"`} {
		e2e.Ask{Method: "POST", Path: "/v1/backup", Token: device.Token, Media: e2e.Octets,
			Body: strings.Repeat("x", 32), Header: map[string]string{"If-Match": never}}.
			To(t, relay).Want(t, 412, "precondition_failed")
	}
}

func TestOfConcurrentBackupsExactlyOneWins(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	other := relaytest.StartOn(t, relay.DatabaseURL)
	device := relay.Register(t).NewDevice(t)
	for round := range 5 {
		contents := make([][]byte, 10)
		answers := make([]e2e.Reply, len(contents))
		var wg sync.WaitGroup
		for i := range contents {
			contents[i] = e2e.Random(t, 20_000)
			d := device
			if i%2 == 1 {
				d = device.On(other)
			}
			wg.Go(func() { answers[i] = e2e.BackUp(t, d, round, contents[i]) })
		}
		wg.Wait()
		winner := -1
		for i, a := range answers {
			switch {
			case a.Status == http.StatusOK && winner < 0:
				winner = i
			case a.Status == http.StatusOK:
				t.Errorf("round %d has two winners", round)
			case a.Status == http.StatusConflict && a.Code == "upload_running",
				a.Status == http.StatusPreconditionFailed:
			default:
				t.Errorf("status %d, %s", a.Status, a.Body)
			}
		}
		if winner < 0 {
			t.Fatalf("round %d has no winner", round)
		}
		wantBackup(t, device, round+1, contents[winner])
	}
	wait.Eventually(t, "what lost is gone", func() bool { return filesIn(t, relay) == 1 })
}

func TestAnUploadThatIsRunningKeepsOthersAwayUntilItsTimeIsOver(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	database := e2e.Database(t, relay)
	device := relay.Register(t).NewDevice(t)
	first := e2e.Random(t, 100)
	e2e.BackUp(t, device, 0, first).Want(t, 200, "")
	stuck := e2e.DialWire(t, relay)
	stuck.Send(strings.Replace(header(device, "/v1/backup", "Content-Length: 64"), "If-None-Match: *", `If-Match: "1"`,
		1) + "half")
	wait.Eventually(t, "it runs", func() bool {
		return e2e.Count(t, database, "SELECT count(*) FROM backups WHERE upload IS NOT NULL") == 1
	})
	e2e.BackUp(t, device, 1, e2e.Random(t, 200)).Want(t, 409, "upload_running")
	wantBackup(t, device, 1, first)
	if n := e2e.Count(t, database, "SELECT extract(epoch FROM upload_until - now())::bigint FROM backups"); n < 25 ||
		n > 40 {
		t.Errorf("it keeps the slot for %d s", n)
	}
	e2e.Change(t, database, "UPDATE backups SET upload_until = now()")
	second := e2e.Random(t, 300)
	e2e.BackUp(t, device, 1, second).Want(t, 200, "")
	// It comes to its end now, and must not win.
	stuck.Send(strings.Repeat("x", 60))
	stuck.ReplyTo("POST", "/v1/backup").Want(t, 409, "upload_running")
	wantBackup(t, device, 2, second)
	wait.Eventually(t, "nothing else is left", func() bool { return filesIn(t, relay) == 1 })
}

func TestABackupOutlivesATakeoverAndGoesWithItsDevice(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	device := relay.Register(t).NewDevice(t)
	content := e2e.Random(t, 5000)
	e2e.BackUp(t, device, 0, content).Want(t, 200, "")
	e2e.WantUpload(t, device, e2e.TakeoverBy(prekeytest.NewIdentity()), http.StatusOK, "")
	wantBackup(t, device, 1, content)
	e2e.Ask{Method: "DELETE", Path: "/v1/devices/" + device.ID.String(), Token: device.User.Token}.To(t, relay).Want(t,
		200, "")
	wait.Eventually(t, "it is gone", func() bool { return filesIn(t, relay) == 0 })
	database := e2e.Database(t, relay)
	wait.Eventually(t, "so are the rows", func() bool {
		return e2e.Count(t, database, "SELECT (SELECT count(*) FROM backups) + (SELECT count(*) FROM blob_trash)") == 0
	})
}

func TestADeviceThatGoesDuringItsUploadLeavesNothing(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	database := e2e.Database(t, relay)
	device := relay.Register(t).NewDevice(t)
	running := map[string]*e2e.Wire{}
	for _, path := range []string{"/v1/backup", "/v1/attachments"} {
		running[path] = e2e.DialWire(t, relay)
		running[path].Send(header(device, path, "Content-Length: 64") + "half")
	}
	wait.Eventually(t, "both run", func() bool {
		return e2e.Count(t, database, "SELECT (SELECT count(*) FROM backups) + (SELECT count(*) FROM attachments)") == 2
	})
	e2e.Ask{Method: "DELETE", Path: "/v1/account", Token: device.Token,
		Body: e2e.Object("password", relaytest.Password)}.To(t, relay).Want(t, 200, "")
	for path, w := range running {
		w.Send(strings.Repeat("x", 60))
		w.ReplyTo("POST", path).Want(t, 401, "unauthorized")
	}
	wait.Eventually(t, "nothing is left", func() bool {
		return filesIn(t, relay) == 0 && e2e.Count(t, database, `SELECT (SELECT count(*) FROM backups) + (SELECT count(*) FROM attachments)
			+ (SELECT count(*) FROM attachment_usage) + (SELECT count(*) FROM blob_trash)`) == 0
	})
}
