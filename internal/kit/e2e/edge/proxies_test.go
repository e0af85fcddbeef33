package edge_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/obscura-relay/obscura/gen/obscurapb"
	"github.com/obscura-relay/obscura/internal/app"
	"github.com/obscura-relay/obscura/internal/kit/certtest"
	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
	"github.com/obscura-relay/obscura/internal/kit/wait"
)

// trusting has a relay believe what the proxies of this machine say.
func trusting(c *app.Config) {
	c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
}

// behind puts every proxy of docs/operations.md that is here before a relay, and returns their
// URLs. For one that is not, a subtest is skipped.
func behind(t *testing.T, relay *relaytest.Relay) map[string]string {
	t.Helper()
	at := map[string]string{}
	for _, proxy := range relaytest.Proxies {
		found := false
		t.Run(proxy.Name, func(t *testing.T) { found = proxy.Find(t) != "" })
		if found {
			at[proxy.Name] = proxy.Start(t, relay.API)
		}
	}
	return at
}

func TestTheProxiesTakeTheDocumentedConfigurations(t *testing.T) {
	t.Parallel()
	certificate, key := certtest.New().Files(t)
	for _, proxy := range relaytest.Proxies {
		t.Run(proxy.Name, func(t *testing.T) { proxy.Check(t, certificate, key) })
	}
}

func TestTheLimitOfUploadsIsTheRelaysOwnBehindAProxy(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t, trusting, func(c *app.Config) { c.ReadTimeout = time.Minute })
	device := relay.Register(t).NewDevice(t)
	for name, proxy := range behind(t, relay) {
		for _, c := range []struct {
			size   int64
			status int
			code   string
		}{{50 << 20, 201, ""}, {50<<20 + 1, 413, "body_too_large"}, {1, 201, ""}} {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, proxy+"/v1/attachments",
				io.NopCloser(io.LimitReader(e2e.Zeros{}, c.size)))
			if err != nil {
				t.Fatal(err)
			}
			request.ContentLength = c.size
			request.Header.Set("Authorization", "Bearer "+device.Token)
			response, err := http.DefaultClient.Do(request) //nolint:forbidigo // to a proxy, which adds headers of its own
			if err != nil {
				t.Fatalf("%s, %d bytes: %v", name, c.size, err)
			}
			var answer struct{ Code string }
			err = json.NewDecoder(response.Body).Decode(&answer)
			_ = response.Body.Close()
			if err != nil || response.StatusCode != c.status || answer.Code != c.code {
				t.Errorf("%s, %d bytes: status %d, code %q, %v", name, c.size, response.StatusCode, answer.Code, err)
			}
		}
	}
}

// Two clients come from addresses of their own, which only the proxy sees. What they claim counts
// for nothing.
func TestAProxySaysWhereARequestComesFrom(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t, e2e.Limits(2, "log-in"), trusting)
	addresses := []net.IP{{127, 0, 3, 1}, {127, 0, 3, 2}}
	for name, proxy := range behind(t, relay) {
		for i, address := range addresses {
			dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: address}}
			client := &http.Client{Transport: &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true}}
			for j, want := range []int{401, 401, 429} {
				a := nobody(j)
				a.Header = map[string]string{"X-Forwarded-For": "203.0.113." + strconv.Itoa(j)}
				if got := a.Through(t, proxy, client); got.Status != want {
					t.Errorf("%s, client %d, log-in %d: status %d, want %d", name, i, j, got.Status, want)
				}
			}
			address[2]++ // for the next proxy
		}
	}
}

// A proxy closes what is silent for 75 s (nginx, as documented): the socket lives on the relay's
// pings, at 30, 60 and 90 s.
func TestASessionPassesTheProxies(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t, trusting)
	database := e2e.Database(t, relay)
	alice := relay.Register(t).NewDevice(t)
	var ends []func()
	for name, proxy := range behind(t, relay) {
		bob := relay.Register(t).NewDevice(t)
		got := e2e.Ask{Method: "POST", Path: "/v1/gateway/ticket", Token: bob.Token}.Through(t, proxy,
			http.DefaultClient).Want(t, 201, "") //nolint:forbidigo // see above
		alice.Send(t, nil, relaytest.To(bob.ID, "before"))
		ends = append(ends, func() {
			if err := idleSession(t, alice, bob, proxy, got.Member(t, "ticket")); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	e2e.Together(len(ends), func(i int) { ends[i]() })
	wait.Eventually(t, "what was acknowledged is gone", func() bool {
		return e2e.Count(t, database, "SELECT count(*) FROM messages") == 0
	})
}

// idleSession receives and acknowledges an envelope, idles until the third ping, and receives and
// acknowledges another one.
func idleSession(t *testing.T, alice, bob *relaytest.Device, at, ticket string) error {
	t.Helper()
	var sent sync.WaitGroup
	defer sent.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	pings, idled := 0, make(chan struct{})
	conn, err := dialSlowly(ctx, at, "?ticket="+ticket,
		websocket.DialOptions{OnPingReceived: func(context.Context, []byte) bool {
			if pings++; pings == 3 {
				close(idled)
			}
			return true
		}})
	if err != nil {
		return err
	}
	defer func() { _ = conn.CloseNow() }()
	before, err := receive(ctx, conn, drained)
	if err != nil {
		return err
	}
	sent.Go(func() {
		select {
		case <-idled:
			alice.Send(t, nil, relaytest.To(bob.ID, "after"))
		case <-ctx.Done():
		}
	})
	after, err := receive(ctx, conn, func(frame *obscurapb.WebSocketFrame) bool {
		return frame.GetEnvelopeBatch() != nil
	})
	if err == nil {
		err = conn.Ping(conn.CloseRead(ctx)) // its answer comes after the acknowledgement has
	}
	if err == nil && (before != 1 || after != 1 || pings < 3) {
		err = fmt.Errorf("%d envelopes before and %d after %d pings, want 1 and 1 after 3", before, after, pings)
	}
	return err
}
