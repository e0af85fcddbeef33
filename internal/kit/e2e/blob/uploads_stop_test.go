package blob_test

import (
	"strings"
	"testing"
	"time"

	"github.com/obscura-relay/obscura/internal/app"
	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
	"github.com/obscura-relay/obscura/internal/kit/wait"
)

// halfUploaded begins an upload of 64 bytes and waits until the relay is at it.
func halfUploaded(t *testing.T, relay *relaytest.Relay, device *relaytest.Device) *e2e.Wire {
	t.Helper()
	w := e2e.DialWire(t, relay)
	w.Send(header(device, "/v1/attachments", "Content-Length: 64") + "half")
	database := e2e.Database(t, relay)
	wait.Eventually(t, "it runs", func() bool {
		return e2e.Count(t, database, "SELECT count(*) FROM attachments") == 1
	})
	return w
}

func TestAnUploadEndsBeforeTheRelayDoes(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	device := relay.Register(t).NewDevice(t)
	w := halfUploaded(t, relay, device)
	stopped := make(chan struct{})
	go func() { relay.Stop(); close(stopped) }()
	wait.Eventually(t, "it is stopping", func() bool { return strings.Contains(relay.Log.String(), `"stopping"`) })
	w.Send(strings.Repeat("x", 60))
	id := w.ReplyTo("POST", "/v1/attachments").Want(t, 201, "").Member(t, "id")
	<-stopped
	next := relaytest.StartOn(t, relay.DatabaseURL)
	e2e.Ask{Method: "GET", Path: "/v1/attachments/" + id, Token: device.Token}.To(t, next).Want(t, 200, "")
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
	if !w.Ended() {
		t.Error("the connection is open")
	}
	database := e2e.Database(t, relay)
	if n := e2e.Count(t, database,
		"SELECT (SELECT count(*) FROM attachments) + (SELECT stored_bytes + day_bytes FROM attachment_usage)"); n != 0 {
		t.Error("something is left")
	}
	next := relaytest.StartOn(t, relay.DatabaseURL)
	wait.Eventually(t, "the trash is emptied", func() bool {
		return filesIn(t, next) == 0 && e2e.Count(t, database, "SELECT count(*) FROM blob_trash") == 0
	})
}

func TestABrowserMayUploadAndReadTheAnswer(t *testing.T) {
	t.Parallel()
	const origin = "https://chat.example.org"
	relay := relaytest.Start(t, func(c *app.Config) { c.CORSOrigins = []string{origin} })
	device := relay.Register(t).NewDevice(t)
	upload := e2e.Ask{Method: "POST", Path: "/v1/backup", Token: device.Token, Media: e2e.Octets,
		Body:   strings.Repeat("x", 32),
		Header: map[string]string{"Origin": origin, "If-None-Match": "*"}}
	for _, status := range []int{200, 412} {
		got := upload.To(t, relay)
		if got.Status != status || got.Header.Get("Access-Control-Allow-Origin") != origin ||
			!strings.Contains(got.Header.Get("Access-Control-Expose-Headers"), "ETag") {
			t.Errorf("status %d, %v", got.Status, got.Header)
		}
	}
}
