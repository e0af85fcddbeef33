package edge_test

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
	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

// The slowest line that is served carries 2 KB a second, whatever has been sent: the largest part
// of a minute passes here without a sign of life, because an envelope is on its way. At 97 KB/s the
// backlog is larger than the kernel would queue. Behind a proxy the relay sees of the line only
// what the proxy lets through.
func TestASteadyReaderOnASlowLineIsNotCut(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t, trusting)
	alice, user := relay.Register(t).NewDevice(t), relay.Register(t)
	few, many := []int{90_000, 10_000}, slices.Repeat([]int{200_000}, 22)
	type line struct {
		name  string
		rate  int
		sizes []int
		at    string
	}
	cases := []line{{"2 KB/s", 2_000, few, relay.API}, {"97 KB/s", 97_000, many, relay.API}}
	for name, at := range behind(t, relay) {
		cases = append(cases, line{"2 KB/s behind " + name, 2_000, few, at},
			line{"97 KB/s behind " + name, 97_000, many, at})
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
	e2e.Together(len(run), func(i int) { run[i]() })
	if n := e2e.Meter(t, relay, "obscura_envelopes_delivered_total"); int(n) != sent {
		t.Errorf("%v envelopes were delivered, want %d", n, sent)
	}
}

// readSlowly reads a backlog as it comes, acknowledges it, and returns how many envelopes it had.
func readSlowly(ctx context.Context, api, token string) (n int, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	conn, err := dialSlowly(ctx, api, "",
		websocket.DialOptions{HTTPHeader: http.Header{"Authorization": {"Bearer " + token}}})
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.CloseNow() }()
	return receive(ctx, conn, drained)
}

// dialSlowly opens the gateway without the bounds that tests have otherwise.
func dialSlowly(ctx context.Context, api, query string, options websocket.DialOptions) (*websocket.Conn, error) {
	options.HTTPClient = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	conn, _, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(api, "http")+"/v1/gateway"+query, &options) //nolint:bodyclose // the library closes it
	if err == nil {
		conn.SetReadLimit(4 << 20)
	}
	return conn, err
}

func drained(frame *obscurapb.WebSocketFrame) bool { return frame.GetDrained() != nil }

// receive reads and acknowledges envelopes, up to a frame that is the last one, and returns how
// many there were.
func receive(ctx context.Context, conn *websocket.Conn, last func(*obscurapb.WebSocketFrame) bool) (n int, err error) {
	for {
		_, data, err := conn.Read(ctx)
		var frame obscurapb.WebSocketFrame
		if err == nil {
			err = proto.Unmarshal(data, &frame)
		}
		if err != nil {
			return n, err
		}
		if ack := (&obscurapb.AckMessage{}); frame.GetEnvelopeBatch() != nil {
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
		if last(&frame) {
			return n, nil
		}
	}
}
