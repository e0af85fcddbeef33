package app_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/protobuf/proto"

	"github.com/obscura-relay/obscura/gen/obscurapb"
	"github.com/obscura-relay/obscura/internal/relaytest"
)

// The slowest line that is served carries 2 KB a second, whatever has been sent: the largest part of a minute
// passes here without a sign of life, because an envelope is on its way. At 97 KB/s the backlog is larger
// than the kernel would queue.
func TestASteadyReaderOnASlowLineIsNotCut(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	alice, user := relay.Register(t).NewDevice(t), relay.Register(t)
	proxy := relaytest.NewNginx(t, relay.API)
	few, many := []int{90_000, 10_000}, slices.Repeat([]int{200_000}, 22)
	cases := []struct {
		name  string
		rate  int
		sizes []int
		at    string
	}{
		{"2 KB/s", 2_000, few, relay.API},
		{"2 KB/s behind nginx", 2_000, few, proxy},
		{"97 KB/s", 97_000, many, relay.API},
		{"97 KB/s behind nginx", 97_000, many, proxy},
	}
	sent := 0
	run := make([]func(), len(cases))
	for i, c := range cases {
		bob := user.NewDevice(t)
		for _, size := range c.sizes {
			alice.Send(t, nil, relaytest.To(bob.ID, strings.Repeat("x", size)))
		}
		sent += len(c.sizes)
		line := relaytest.NewLine(t, c.at, c.rate)
		run[i] = func() {
			begin := time.Now()
			got, err := readSlowly(t.Context(), line.URL, bob.Token)
			t.Logf("%s: %d envelopes in %s", c.name, got, time.Since(begin).Round(time.Second))
			if err != nil || got != len(c.sizes) {
				t.Errorf("%s: %d envelopes, want %d: %v", c.name, got, len(c.sizes), err)
			}
		}
	}
	together(len(run), func(i int) { run[i]() })
	if n := meter(t, relay, "obscura_envelopes_delivered_total"); int(n) != sent {
		t.Errorf("%v envelopes were delivered, want %d", n, sent)
	}
}

// readSlowly reads a backlog as it comes, acknowledges it, and returns how many envelopes it had.
func readSlowly(ctx context.Context, api, token string) (n int, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(api, "http")+"/v1/gateway", //nolint:bodyclose // the library closes it
		&websocket.DialOptions{HTTPHeader: bearer(token), HTTPClient: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}})
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.CloseNow() }()
	conn.SetReadLimit(4 << 20)
	for {
		_, data, err := conn.Read(ctx)
		var frame obscurapb.WebSocketFrame
		if err == nil {
			err = proto.Unmarshal(data, &frame)
		}
		if err != nil || frame.GetDrained() != nil {
			return n, err
		}
		ack := &obscurapb.AckMessage{}
		for _, e := range frame.GetEnvelopeBatch().GetEnvelopes() {
			ack.MessageIds = append(ack.MessageIds, e.GetId())
			n++
		}
		data, err = proto.Marshal(&obscurapb.WebSocketFrame{Payload: &obscurapb.WebSocketFrame_Ack{Ack: ack}})
		if err == nil {
			err = conn.Write(ctx, websocket.MessageBinary, data)
		}
		if err != nil {
			return n, err
		}
	}
}
