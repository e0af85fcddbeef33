package blob_test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
	"github.com/obscura-relay/obscura/internal/kit/wait"
)

// unread asks for a download, reads the head of its answer, and stops there.
func unread(t testing.TB, relay *relaytest.Relay, device *relaytest.Device, path string) *e2e.Wire {
	t.Helper()
	w := e2e.DialWire(t, relay)
	if err := w.Conn.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	w.Send(fmt.Sprintf("GET %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", path, device.Token))
	response, err := http.ReadResponse(w.Reader, nil) //nolint:bodyclose // closing it would read it
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%v, %v", response, err)
	}
	return w
}

// A device has 16 downloads at once, an account 64. One that ends gives its place back, also when
// its connection breaks; an answer without a body takes none.
func TestDownloadsAtOnceAreBoundedForDeviceAndAccount(t *testing.T) {
	t.Parallel()
	const ofDevice, ofUser = 16, 64
	relay := relaytest.Start(t)
	user := relay.Register(t)
	var devices []*relaytest.Device
	for range ofUser/ofDevice + 1 {
		devices = append(devices, user.NewDevice(t))
	}
	device, fresh := devices[0], devices[len(devices)-1]
	id := e2e.Attach(t, device, e2e.Random(t, 8<<20)).ID.String() // more than a socket takes unread
	path := "/v1/attachments/" + id
	for _, d := range []*relaytest.Device{device, fresh} {
		e2e.BackUp(t, d, 0, e2e.Random(t, 1000)).Want(t, 200, "")
	}
	whole := e2e.Ask{Method: "GET", Path: path, Token: device.Token}
	backup := e2e.Ask{Method: "GET", Path: "/v1/backup", Token: device.Token}
	lost := e2e.Attach(t, device, e2e.Random(t, 10)).ID.String()
	if err := os.Remove(filepath.Join(relay.Blobs, "attachments", lost)); err != nil {
		t.Fatal(err)
	}
	for range ofDevice + 1 { // downloads that have ended, well or not
		backup.To(t, relay).Want(t, 200, "")
		e2e.Ask{Method: "GET", Path: "/v1/attachments/" + lost, Token: device.Token}.To(t, relay).Want(t, 500,
			"internal")
	}

	var open []*e2e.Wire
	for range ofDevice {
		open = append(open, unread(t, relay, device, path))
	}
	for range ofDevice + 1 { // what has no body takes no place, and needs none
		with := func(a e2e.Ask, name, value string) e2e.Ask { a.Header = map[string]string{name: value}; return a }
		with(whole, "If-None-Match", `"`+id+`"`).To(t, relay).Want(t, 304, "")
		with(whole, "Range", "bytes=99999999-").To(t, relay).Want(t, 416, "range_not_satisfiable")
		with(backup, "If-None-Match", `"1"`).To(t, relay).Want(t, 304, "")
		e2e.Ask{Method: "HEAD", Path: "/v1/backup", Token: device.Token}.To(t, relay).Want(t, 200, "")
		e2e.Ask{Method: "GET", Path: "/v1/attachments/" + device.ID.String(), Token: device.Token}.To(t, relay).Want(t,
			404, "attachment_not_found")
	}
	for _, a := range []e2e.Ask{whole, backup} {
		if r := a.To(t, relay).Want(t, 429, "rate_limited"); r.Header.Get("Retry-After") != "1" {
			t.Errorf("Retry-After %q", r.Header.Get("Retry-After"))
		}
	}
	again := func(a e2e.Ask) func() bool {
		return func() bool { return a.To(t, relay).Status == http.StatusOK }
	}
	_ = open[0].Close() // with most of it unread
	wait.Eventually(t, "a broken download gives its place back", again(backup))
	open[0] = unread(t, relay, device, path)
	backup.To(t, relay).Want(t, 429, "rate_limited")

	for _, d := range devices[1 : len(devices)-1] {
		for range ofDevice {
			open = append(open, unread(t, relay, d, path))
		}
	}
	backup.Token = fresh.Token
	backup.To(t, relay).Want(t, 429, "rate_limited")
	stranger := relay.Register(t).NewDevice(t)
	e2e.Ask{Method: "GET", Path: path, Token: stranger.Token, Header: map[string]string{"Range": "bytes=0-9"}}.To(t,
		relay).Want(t, 206, "")
	_ = open[len(open)-1].Close()
	wait.Eventually(t, "the account has a place again", again(backup))
}
