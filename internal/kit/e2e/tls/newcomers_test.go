package tls_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/obscura-relay/obscura/internal/app"
	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
	"github.com/obscura-relay/obscura/internal/kit/wait"
)

// bound is how many connections of an address may be without a first request.
const bound = 512

// crowd opens connections that say something, and returns how many of them are left open.
func crowd(t *testing.T, relay *relaytest.Relay, address string, n int, first []byte) int {
	t.Helper()
	_, host, _ := strings.Cut(relay.API, "://")
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	var all []net.Conn
	for range n {
		conn, err := dialer.DialContext(t.Context(), "tcp", host)
		if err != nil {
			continue // closed before it was open
		}
		t.Cleanup(func() { _ = conn.Close() })
		_, _ = conn.Write(first)
		all = append(all, conn)
	}
	var left atomic.Int32
	var reading sync.WaitGroup
	for _, conn := range all {
		reading.Go(func() {
			_ = conn.SetReadDeadline(time.Now().Add(time.Second))
			if _, err := conn.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
				left.Add(1)
			}
		})
	}
	reading.Wait()
	return int(left.Load())
}

// The relay has its own bounds here; internal/api tries smaller ones.
func TestConnectionsWithoutARequestAreBounded(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*app.Config){"TLS": secure(t), "plain": func(*app.Config) {}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			relay := relaytest.Start(t, change)
			first := map[string][]byte{"TLS": clientHello(t)[:100], "plain": []byte("GET / HTT")}[name]
			if open := crowd(t, relay, "127.0.5.1", bound+50, first); open > bound || open < bound/2 {
				t.Errorf("%d are open", open)
			}
			if refused := e2e.Meter(t, relay, "obscura_connections_refused_total"); refused < 50 {
				t.Errorf("%v are counted", refused)
			}
			e2e.Ask{Method: "GET", Path: "/v1/info"}.To(t, relay).Want(t, 200, "") // from 127.0.0.1
		})
	}
}

func TestConnectionsThatHaveMadeARequestAreNotBounded(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	for i := range bound + 50 {
		w := e2e.DialWireFrom(t, relay, "127.0.5.2", "GET /v1/info HTTP/1.1\r\nHost: x\r\n\r\n")
		if line, _, err := w.Reader.ReadLine(); err != nil || !strings.Contains(string(line), "200") {
			t.Fatalf("connection %d: %s, %v", i, line, err)
		}
	}
	if refused := e2e.Meter(t, relay, "obscura_connections_refused_total"); refused != 0 {
		t.Errorf("%v are refused", refused)
	}
}

// A proxy's own connections are not bounded by its address; its clients' are by theirs.
func TestAProxyIsNotBoundedByItsAddress(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t, secure(t), trusting)
	if open := crowd(t, relay, proxy, bound+50, nil); open != bound+50 {
		t.Errorf("%d of the proxy's own are open", open)
	}
	if open := crowd(t, relay, proxy, bound+50, []byte(version1("198.51.100.1"))); open > bound || open < bound/2 {
		t.Errorf("%d of a client's are open", open)
	}
	if got := tries(t, relay, proxy, version1("198.51.100.2")); got != 401 {
		t.Errorf("another client is answered %d", got)
	}
}

// The port of plain HTTP has the same bound.
func TestConnectionsToPlainHTTPAreBounded(t *testing.T) {
	t.Parallel()
	at := freePorts(t)
	relay := relaytest.Start(t, secure(t), trusting, func(c *app.Config) { c.HTTPListen = at.plain })
	plain := *relay
	plain.API = "http://" + at.plain
	if open := crowd(t, &plain, "127.0.5.3", bound+50, nil); open > bound || open < bound/2 {
		t.Errorf("%d are open", open)
	}
	wait.Eventually(t, "they are counted", func() bool {
		return e2e.Meter(t, relay, "obscura_connections_refused_total") >= 50
	})
	// A proxy that says nothing is waited for half as long as for a handshake, and then read from.
	begun := time.Now()
	w := e2e.DialWireFrom(t, &plain, proxy, "")
	_, _ = io.Copy(io.Discard, w)
	if took := time.Since(begun); took > 13*time.Second {
		t.Errorf("a silent proxy is waited for %v", took)
	}
	conn := e2e.DialWireFrom(t, &plain, "127.0.5.4", fmt.Sprintf("GET / HTTP/1.1\r\nHost: %s\r\n\r\n", at.plain))
	if line, _, err := conn.Reader.ReadLine(); err != nil || !strings.Contains(string(line), "308") {
		t.Errorf("%s, %v", line, err)
	}
}
