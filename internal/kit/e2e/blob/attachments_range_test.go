package blob_test

import (
	"bytes"
	"fmt"
	"net/http"
	"testing"

	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

func TestAPartOfAnAttachmentCanBeAskedFor(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	device := relay.Register(t).NewDevice(t)
	content := e2e.Random(t, 10_000)
	id := e2e.Attach(t, device, content).ID.String()
	for header, c := range map[string]struct{ status, from, to int }{
		"bytes=0-0":                      {206, 0, 1},
		"bytes=0-9999":                   {206, 0, 10_000},
		"bytes=100-199":                  {206, 100, 200},
		"Bytes=100-199":                  {206, 100, 200},
		"bytes=9000-":                    {206, 9000, 10_000},
		"bytes=9999-":                    {206, 9999, 10_000},
		"bytes=5-99999999999999999999":   {206, 5, 10_000},
		"bytes=-1":                       {206, 9999, 10_000},
		"bytes=-10000":                   {206, 0, 10_000},
		"bytes=-99999":                   {206, 0, 10_000},
		"bytes=10000-":                   {416, 0, 0},
		"bytes=10000-10001":              {416, 0, 0},
		"bytes=99999999999999999999999-": {416, 0, 0},
		"bytes=-0":                       {416, 0, 0},
		"bytes=0-1,3-4":                  {200, 0, 10_000},
		"bytes=0-1,":                     {200, 0, 10_000},
		"bytes=2-1":                      {200, 0, 10_000},
		"bytes=-":                        {200, 0, 10_000},
		"bytes=":                         {200, 0, 10_000},
		"bytes":                          {200, 0, 10_000},
		"bytes=a-b":                      {200, 0, 10_000},
		"bytes=1-b":                      {200, 0, 10_000},
		"bytes=+1-2":                     {200, 0, 10_000},
		"bytes=--1":                      {200, 0, 10_000},
		"bytes=1-2-3":                    {200, 0, 10_000},
		"lines=0-1":                      {200, 0, 10_000},
	} {
		got := e2e.Ask{Method: "GET", Path: "/v1/attachments/" + id, Token: device.Token,
			Header: map[string]string{"Range": header}}.To(t, relay)
		want := map[int]string{206: fmt.Sprintf("bytes %d-%d/10000", c.from, c.to-1), 416: "bytes */10000"}[c.status]
		if got.Status != c.status || got.Header.Get("Content-Range") != want {
			t.Errorf("%s: status %d, Content-Range %q", header, got.Status, got.Header.Get("Content-Range"))
		}
		switch {
		case c.status == http.StatusRequestedRangeNotSatisfiable:
			got.Want(t, 416, "range_not_satisfiable")
		case !bytes.Equal(got.Body, content[c.from:c.to]) || got.Header.Get("Accept-Ranges") != "bytes":
			t.Errorf("%s: %d bytes, Accept-Ranges %q", header, len(got.Body), got.Header.Get("Accept-Ranges"))
		}
	}
}

func TestAnAttachmentIsNotSentToWhoHasIt(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	device := relay.Register(t).NewDevice(t)
	a := e2e.Attach(t, device, e2e.Random(t, 1000)).ID.String()
	tag := `"` + a + `"`
	for _, c := range []struct {
		header map[string]string
		status int
	}{
		{map[string]string{"If-None-Match": tag}, 304},
		{map[string]string{"If-None-Match": "W/" + tag}, 304},
		{map[string]string{"If-None-Match": `"other" , ` + tag}, 304},
		{map[string]string{"If-None-Match": "*"}, 304},
		{map[string]string{"If-None-Match": tag, "Range": "bytes=0-1"}, 304},
		{map[string]string{"If-None-Match": tag, "Range": "bytes=5000-"}, 304},
		{map[string]string{"If-None-Match": `"other"`}, 200},
		{map[string]string{"If-None-Match": a}, 200},
		{map[string]string{"If-None-Match": ""}, 200},
		{map[string]string{"If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"}, 200},
		{map[string]string{"If-Range": tag, "Range": "bytes=0-1"}, 206},
		{map[string]string{"If-Range": `"other"`, "Range": "bytes=0-1"}, 200},
		{map[string]string{"If-Range": "W/" + tag, "Range": "bytes=0-1"}, 200},
		{map[string]string{"If-Range": `"other"`, "Range": "bytes=5000-"}, 200},
		{map[string]string{"If-Range": "Fri, 01 Jan 2100 00:00:00 GMT", "Range": "bytes=0-1"}, 200},
		{map[string]string{"If-Range": tag}, 200},
	} {
		got := e2e.Ask{Method: "GET", Path: "/v1/attachments/" + a, Token: device.Token, Header: c.header}.To(t, relay)
		if got.Status != c.status || got.Header.Get("ETag") != tag || got.Header.Get("Cache-Control") != "no-cache" ||
			got.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%v: status %d, %v", c.header, got.Status, got.Header)
		}
		if got.Status == http.StatusNotModified && len(got.Body) > 0 {
			t.Errorf("%v: with a body", c.header)
		}
	}
}
