package edge_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"testing"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/obscura-relay/obscura/gen/obscurapb"
	"github.com/obscura-relay/obscura/internal/app"
	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

// Requests that show a delivery token count by the token, from wherever they come, and by the
// address, whatever they show. The limits let three through.
func TestUnnamedRequestsStopAtTheirLimits(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t, rates, e2e.Limits(100, "register"))
	fresh := func() (*relaytest.Device, []byte) {
		d := relay.Register(t).NewDevice(t)
		return d, d.NewDeliveryToken(t)
	}
	address := 0
	elsewhere := func() *http.Client {
		address++
		return e2e.From(t, fmt.Sprintf("127.0.5.%d", address))
	}
	for what, ask := range map[string]func(*testing.T, *relaytest.Device, []byte) e2e.Ask{
		"sends": sealedSend, "bundles": unnamedBundles, "device lists": unnamedList,
	} {
		d, token := fresh()
		for i := range 4 {
			got := ask(t, d, token).Through(t, relay.API, elsewhere())
			if want := i == 3; want != (got.Status == http.StatusTooManyRequests) || want && got.Header.Get("Retry-After") == "" {
				t.Errorf("%s with one token, request %d: %d %s", what, i+1, got.Status, got.Body)
			}
		}
		here := elsewhere()
		for i := range 4 {
			d, token := fresh()
			got := ask(t, d, token).Through(t, relay.API, here)
			if want := i == 3; want != (got.Status == http.StatusTooManyRequests) {
				t.Errorf("%s from one address, request %d: %d %s", what, i+1, got.Status, got.Body)
			}
		}
	}
}

func TestWrongDeliveryTokensAreLimitedByAddress(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t, func(c *app.Config) { e2e.Limits(3, "credentials")(c) })
	d := relay.Register(t).NewDevice(t)
	good := d.NewDeliveryToken(t)
	for i, ask := range []func(*testing.T, *relaytest.Device, []byte) e2e.Ask{sealedSend, unnamedBundles, unnamedList} {
		here := e2e.From(t, fmt.Sprintf("127.0.6.%d", i+1))
		for range 5 { // good ones count for nothing
			ask(t, d, good).Through(t, relay.API, here).Want(t, 200, "")
		}
		for n := range 4 {
			got := ask(t, d, relaytest.DeliveryToken()).Through(t, relay.API, here)
			if want := n == 3; want != (got.Status == http.StatusTooManyRequests) {
				t.Errorf("kind %d, request %d: %d %s", i, n+1, got.Status, got.Body)
			}
		}
	}
}

func sealedSend(t *testing.T, d *relaytest.Device, token []byte) e2e.Ask {
	t.Helper()
	body, err := proto.Marshal(&obscurapb.SendMessageRequest{
		Messages: []*obscurapb.Submission{relaytest.Sealed(d.ID, "x", token)}})
	if err != nil {
		t.Fatal(err)
	}
	return e2e.Ask{Method: "POST", Path: "/v1/messages/sealed", Media: "application/x-protobuf", Body: string(body),
		Header: map[string]string{"Idempotency-Key": uuid.NewString()}}
}

func unnamedBundles(_ *testing.T, d *relaytest.Device, token []byte) e2e.Ask {
	return e2e.Ask{Method: "GET", Path: "/v1/users/" + d.User.ID.String(), Header: map[string]string{
		"Delivery-Token": base64.RawURLEncoding.EncodeToString(token)}}
}

func unnamedList(t *testing.T, d *relaytest.Device, token []byte) e2e.Ask {
	t.Helper()
	ask := unnamedBundles(t, d, token)
	ask.Path += "/devices"
	return ask
}
