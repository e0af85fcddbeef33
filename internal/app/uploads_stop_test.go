package app_test

import (
	"strings"
	"testing"
	"time"

	"github.com/obscura-relay/obscura/internal/app"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

// halfUploaded begins an upload of 64 bytes and waits until the relay is at it.
func halfUploaded(t *testing.T, relay *relaytest.Relay, device *relaytest.Device) *wire {
	t.Helper()
	w := dialWire(t, relay)
	w.send(header(device, "/v1/attachments", "Content-Length: 64") + "half")
	database := openDatabase(t, relay)
	relaytest.Eventually(t, "it runs", func() bool { return count(t, database, "SELECT count(*) FROM attachments") == 1 })
	return w
}

func TestAnUploadEndsBeforeTheRelayDoes(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	device := relay.Register(t).NewDevice(t)
	w := halfUploaded(t, relay, device)
	stopped := make(chan struct{})
	go func() { relay.Stop(); close(stopped) }()
	relaytest.Eventually(t, "it is stopping", func() bool { return strings.Contains(relay.Log.String(), `"stopping"`) })
	w.send(strings.Repeat("x", 60))
	id := w.replyTo("POST", "/v1/attachments").want(t, 201, "").member(t, "id")
	<-stopped
	next := relaytest.StartOn(t, relay.DatabaseURL)
	ask{method: "GET", path: "/v1/attachments/" + id, token: device.Token}.to(t, next).want(t, 200, "")
}

func TestAnUploadThatDoesNotEndIsAbandoned(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t, func(c *app.Config) { c.ShutdownTimeout = 300 * time.Millisecond })
	w := halfUploaded(t, relay, relay.Register(t).NewDevice(t))
	begun := time.Now()
	relay.Stop()
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("the stop took %s", took)
	}
	if !w.ended() {
		t.Error("the connection is open")
	}
	database := openDatabase(t, relay)
	if n := count(t, database, "SELECT (SELECT count(*) FROM attachments) + (SELECT stored_bytes + day_bytes FROM attachment_usage)"); n != 0 {
		t.Error("something is left")
	}
	next := relaytest.StartOn(t, relay.DatabaseURL)
	relaytest.Eventually(t, "the trash is emptied", func() bool {
		return filesIn(t, next) == 0 && count(t, database, "SELECT count(*) FROM blob_trash") == 0
	})
}

func TestABrowserMayUploadAndReadTheAnswer(t *testing.T) {
	t.Parallel()
	const origin = "https://chat.example.org"
	relay := relaytest.Start(t, func(c *app.Config) { c.CORSOrigins = []string{origin} })
	device := relay.Register(t).NewDevice(t)
	upload := ask{method: "POST", path: "/v1/backup", token: device.Token, media: octets, body: strings.Repeat("x", 32),
		header: map[string]string{"Origin": origin, "If-None-Match": "*"}}
	for _, status := range []int{200, 412} {
		got := upload.to(t, relay)
		if got.status != status || got.header.Get("Access-Control-Allow-Origin") != origin || !strings.Contains(got.header.Get("Access-Control-Expose-Headers"), "ETag") {
			t.Errorf("status %d, %v", got.status, got.header)
		}
	}
}
