package app_test

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/obscura-relay/obscura/gen/client"
	"github.com/obscura-relay/obscura/internal/kit/prekeytest"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

// backUp uploads a backup in place of a version, 0 for none.
func backUp(t testing.TB, device *relaytest.Device, replaces int, content []byte) reply {
	t.Helper()
	star, tag := "*", fmt.Sprintf(`"%d"`, replaces)
	params := &client.UploadBackupParams{IfMatch: &tag}
	if replaces == 0 {
		params = &client.UploadBackupParams{IfNoneMatch: &star}
	}
	response, err := device.UploadBackupWithBody(t.Context(), params, octets, bytes.NewReader(content)) //nolint:bodyclose // readReply closes it
	if err != nil {
		t.Error(err)
		return reply{}
	}
	return readReply(t, response)
}

// wantBackup fails the test unless a device has this backup.
func wantBackup(t testing.TB, device *relaytest.Device, version int, content []byte) {
	t.Helper()
	got, err := device.DownloadBackupWithResponse(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if tag := got.HTTPResponse.Header.Get("ETag"); got.StatusCode() != http.StatusOK || tag != fmt.Sprintf(`"%d"`, version) || !bytes.Equal(got.Body, content) {
		t.Errorf("status %d, version %s, %d bytes; want version %d", got.StatusCode(), tag, len(got.Body), version)
	}
}

func TestABackupIsVersioned(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	device := relay.Register(t).NewDevice(t)
	ask{method: "GET", path: "/v1/backup", token: device.Token}.to(t, relay).want(t, 404, "backup_not_found")
	ask{method: "HEAD", path: "/v1/backup", token: device.Token}.to(t, relay).want(t, 404, "")
	for version := 1; version <= 3; version++ {
		content := random(t, 1000*version)
		backUp(t, device, version, content).want(t, 412, "precondition_failed")
		backUp(t, device, version-1, content).want(t, 200, "")
		wantBackup(t, device, version, content)
		head, err := device.HeadBackupWithResponse(t.Context())
		if err != nil || head.HTTPResponse.ContentLength != int64(len(content)) || head.HTTPResponse.Header.Get("ETag") != fmt.Sprintf(`"%d"`, version) {
			t.Errorf("%v, %v", head, err)
		}
		backUp(t, device, version-1, content).want(t, 412, "precondition_failed")
		backUp(t, device, 0, content).want(t, 412, "precondition_failed")
		for header, status := range map[string]int{fmt.Sprintf(`"%d"`, version): 304, fmt.Sprintf(`"x", W/"%d"`, version): 304, "*": 304, `"0"`: 200} {
			ask{method: "GET", path: "/v1/backup", token: device.Token, header: map[string]string{"If-None-Match": header}}.to(t, relay).want(t, status, "")
		}
	}
	relaytest.Eventually(t, "the old versions are gone", func() bool { return filesIn(t, relay) == 1 })
}

func TestABackupNeedsExactlyOneCondition(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	device := relay.Register(t).NewDevice(t)
	backUp(t, device, 0, random(t, 32)).want(t, 200, "")
	for name, header := range map[string]map[string]string{
		"none": {}, "both": {"If-Match": `"1"`, "If-None-Match": "*"}, "a version that it must not have": {"If-None-Match": `"1"`},
		"any version": {"If-Match": "*"}, "without quotes": {"If-Match": "1"}, "weak": {"If-Match": `W/"1"`},
		"a list": {"If-Match": `"1", "2"`}, "empty": {"If-Match": ``}, "an empty version": {"If-Match": `""`},
	} {
		got := ask{method: "POST", path: "/v1/backup", token: device.Token, media: octets, body: strings.Repeat("x", 32), header: header}.to(t, relay)
		if got.status != http.StatusBadRequest || got.code != "invalid_condition" {
			t.Errorf("%s: status %d, code %q", name, got.status, got.code)
		}
	}
	for _, never := range []string{`"0"`, `"01"`, `"-1"`, `"+1"`, `"99999999999999999999"`, `"other"`} {
		ask{method: "POST", path: "/v1/backup", token: device.Token, media: octets, body: strings.Repeat("x", 32), header: map[string]string{"If-Match": never}}.
			to(t, relay).want(t, 412, "precondition_failed")
	}
}

func TestOfConcurrentBackupsExactlyOneWins(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	other := relaytest.StartOn(t, relay.DatabaseURL)
	device := relay.Register(t).NewDevice(t)
	for round := range 5 {
		contents := make([][]byte, 10)
		answers := make([]reply, len(contents))
		var wg sync.WaitGroup
		for i := range contents {
			contents[i] = random(t, 20_000)
			d := device
			if i%2 == 1 {
				d = device.On(other)
			}
			wg.Go(func() { answers[i] = backUp(t, d, round, contents[i]) })
		}
		wg.Wait()
		winner := -1
		for i, a := range answers {
			switch {
			case a.status == http.StatusOK && winner < 0:
				winner = i
			case a.status == http.StatusOK:
				t.Errorf("round %d has two winners", round)
			case a.status == http.StatusConflict && a.code == "upload_running", a.status == http.StatusPreconditionFailed:
			default:
				t.Errorf("status %d, %s", a.status, a.body)
			}
		}
		if winner < 0 {
			t.Fatalf("round %d has no winner", round)
		}
		wantBackup(t, device, round+1, contents[winner])
	}
	relaytest.Eventually(t, "what lost is gone", func() bool { return filesIn(t, relay) == 1 })
}

func TestAnUploadThatIsRunningKeepsOthersAwayUntilItsTimeIsOver(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	database := openDatabase(t, relay)
	device := relay.Register(t).NewDevice(t)
	first := random(t, 100)
	backUp(t, device, 0, first).want(t, 200, "")
	stuck := dialWire(t, relay)
	stuck.send(strings.Replace(header(device, "/v1/backup", "Content-Length: 64"), "If-None-Match: *", `If-Match: "1"`, 1) + "half")
	relaytest.Eventually(t, "it runs", func() bool {
		return count(t, database, "SELECT count(*) FROM backups WHERE upload IS NOT NULL") == 1
	})
	backUp(t, device, 1, random(t, 200)).want(t, 409, "upload_running")
	wantBackup(t, device, 1, first)
	if n := count(t, database, "SELECT extract(epoch FROM upload_until - now())::bigint FROM backups"); n < 25 || n > 40 {
		t.Errorf("it keeps the slot for %d s", n)
	}
	changeRows(t, database, "UPDATE backups SET upload_until = now()")
	second := random(t, 300)
	backUp(t, device, 1, second).want(t, 200, "")
	// It comes to its end now, and must not win.
	stuck.send(strings.Repeat("x", 60))
	stuck.replyTo("POST", "/v1/backup").want(t, 409, "upload_running")
	wantBackup(t, device, 2, second)
	relaytest.Eventually(t, "nothing else is left", func() bool { return filesIn(t, relay) == 1 })
}

func TestABackupOutlivesATakeoverAndGoesWithItsDevice(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	device := relay.Register(t).NewDevice(t)
	content := random(t, 5000)
	backUp(t, device, 0, content).want(t, 200, "")
	wantUpload(t, device, takeoverBy(prekeytest.NewIdentity()), http.StatusOK, "")
	wantBackup(t, device, 1, content)
	ask{method: "DELETE", path: "/v1/devices/" + device.ID.String(), token: device.User.Token}.to(t, relay).want(t, 200, "")
	relaytest.Eventually(t, "it is gone", func() bool { return filesIn(t, relay) == 0 })
	database := openDatabase(t, relay)
	relaytest.Eventually(t, "so are the rows", func() bool {
		return count(t, database, "SELECT (SELECT count(*) FROM backups) + (SELECT count(*) FROM blob_trash)") == 0
	})
}

func TestADeviceThatGoesDuringItsUploadLeavesNothing(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	database := openDatabase(t, relay)
	device := relay.Register(t).NewDevice(t)
	running := map[string]*wire{}
	for _, path := range []string{"/v1/backup", "/v1/attachments"} {
		running[path] = dialWire(t, relay)
		running[path].send(header(device, path, "Content-Length: 64") + "half")
	}
	relaytest.Eventually(t, "both run", func() bool {
		return count(t, database, "SELECT (SELECT count(*) FROM backups) + (SELECT count(*) FROM attachments)") == 2
	})
	ask{method: "DELETE", path: "/v1/account", token: device.Token, body: object("password", relaytest.Password)}.to(t, relay).want(t, 200, "")
	for path, w := range running {
		w.send(strings.Repeat("x", 60))
		w.replyTo("POST", path).want(t, 401, "unauthorized")
	}
	relaytest.Eventually(t, "nothing is left", func() bool {
		return filesIn(t, relay) == 0 && count(t, database, `SELECT (SELECT count(*) FROM backups) + (SELECT count(*) FROM attachments)
			+ (SELECT count(*) FROM attachment_usage) + (SELECT count(*) FROM blob_trash)`) == 0
	})
}
