package app_test

import (
	"bytes"
	"fmt"
	"net/http"
	"testing"

	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

func TestAPartOfAnAttachmentCanBeAskedFor(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	device := relay.Register(t).NewDevice(t)
	content := random(t, 10_000)
	id := attach(t, device, content).ID.String()
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
		got := ask{method: "GET", path: "/v1/attachments/" + id, token: device.Token, header: map[string]string{"Range": header}}.to(t, relay)
		want := map[int]string{206: fmt.Sprintf("bytes %d-%d/10000", c.from, c.to-1), 416: "bytes */10000"}[c.status]
		if got.status != c.status || got.header.Get("Content-Range") != want {
			t.Errorf("%s: status %d, Content-Range %q", header, got.status, got.header.Get("Content-Range"))
		}
		switch {
		case c.status == http.StatusRequestedRangeNotSatisfiable:
			got.want(t, 416, "range_not_satisfiable")
		case !bytes.Equal(got.body, content[c.from:c.to]) || got.header.Get("Accept-Ranges") != "bytes":
			t.Errorf("%s: %d bytes, Accept-Ranges %q", header, len(got.body), got.header.Get("Accept-Ranges"))
		}
	}
}

func TestAnAttachmentIsNotSentToWhoHasIt(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	device := relay.Register(t).NewDevice(t)
	a := attach(t, device, random(t, 1000)).ID.String()
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
		got := ask{method: "GET", path: "/v1/attachments/" + a, token: device.Token, header: c.header}.to(t, relay)
		if got.status != c.status || got.header.Get("ETag") != tag || got.header.Get("Cache-Control") != "no-cache" || got.header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%v: status %d, %v", c.header, got.status, got.header)
		}
		if got.status == http.StatusNotModified && len(got.body) > 0 {
			t.Errorf("%v: with a body", c.header)
		}
	}
}
