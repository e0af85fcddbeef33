package app_test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

// unread asks for a download, reads the head of its answer, and stops there.
func unread(t testing.TB, relay *relaytest.Relay, device *relaytest.Device, path string) *wire {
	t.Helper()
	w := dialWire(t, relay)
	if err := w.Conn.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	w.send(fmt.Sprintf("GET %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", path, device.Token))
	response, err := http.ReadResponse(w.r, nil) //nolint:bodyclose // closing it would read it
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%v, %v", response, err)
	}
	return w
}

// A device has 16 downloads at once, an account 64. One that ends gives its place back, also when its
// connection breaks; an answer without a body takes none.
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
	id := attach(t, device, random(t, 8<<20)).ID.String() // more than a socket takes unread
	path := "/v1/attachments/" + id
	for _, d := range []*relaytest.Device{device, fresh} {
		backUp(t, d, 0, random(t, 1000)).want(t, 200, "")
	}
	whole := ask{method: "GET", path: path, token: device.Token}
	backup := ask{method: "GET", path: "/v1/backup", token: device.Token}
	lost := attach(t, device, random(t, 10)).ID.String()
	if err := os.Remove(filepath.Join(relay.Blobs, "attachments", lost)); err != nil {
		t.Fatal(err)
	}
	for range ofDevice + 1 { // downloads that have ended, well or not
		backup.to(t, relay).want(t, 200, "")
		ask{method: "GET", path: "/v1/attachments/" + lost, token: device.Token}.to(t, relay).want(t, 500, "internal")
	}

	var open []*wire
	for range ofDevice {
		open = append(open, unread(t, relay, device, path))
	}
	for range ofDevice + 1 { // what has no body takes no place, and needs none
		with := func(a ask, name, value string) ask { a.header = map[string]string{name: value}; return a }
		with(whole, "If-None-Match", `"`+id+`"`).to(t, relay).want(t, 304, "")
		with(whole, "Range", "bytes=99999999-").to(t, relay).want(t, 416, "range_not_satisfiable")
		with(backup, "If-None-Match", `"1"`).to(t, relay).want(t, 304, "")
		ask{method: "HEAD", path: "/v1/backup", token: device.Token}.to(t, relay).want(t, 200, "")
		ask{method: "GET", path: "/v1/attachments/" + device.ID.String(), token: device.Token}.to(t, relay).want(t, 404, "attachment_not_found")
	}
	for _, a := range []ask{whole, backup} {
		if r := a.to(t, relay).want(t, 429, "rate_limited"); r.header.Get("Retry-After") != "1" {
			t.Errorf("Retry-After %q", r.header.Get("Retry-After"))
		}
	}
	again := func(a ask) func() bool {
		return func() bool { return a.to(t, relay).status == http.StatusOK }
	}
	_ = open[0].Close() // with most of it unread
	relaytest.Eventually(t, "a broken download gives its place back", again(backup))
	open[0] = unread(t, relay, device, path)
	backup.to(t, relay).want(t, 429, "rate_limited")

	for _, d := range devices[1 : len(devices)-1] {
		for range ofDevice {
			open = append(open, unread(t, relay, d, path))
		}
	}
	backup.token = fresh.Token
	backup.to(t, relay).want(t, 429, "rate_limited")
	stranger := relay.Register(t).NewDevice(t)
	ask{method: "GET", path: path, token: stranger.Token, header: map[string]string{"Range": "bytes=0-9"}}.to(t, relay).want(t, 206, "")
	_ = open[len(open)-1].Close()
	relaytest.Eventually(t, "the account has a place again", again(backup))
}
