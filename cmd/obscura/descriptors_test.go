package main

import (
	"errors"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/obscura-relay/obscura/internal/kit/testdb"
	"github.com/obscura-relay/obscura/internal/kit/wait"
)

// Connections that have made a request take all descriptors that they may have, and more of them
// wait. Whoever watches the relay, and the relay itself, still gets some.
func TestTheManagementPortAnswersWhenConnectionsHaveAllDescriptors(t *testing.T) {
	t.Parallel()
	const most = 200
	_, api, management := serving(t, []string{"DATABASE_URL=" + testdb.NewURL(t), "OBSCURA_RATE_LIMITS=off",
		descriptors + "=" + strconv.Itoa(most)})
	for _, from := range []string{"127.0.1.1", "127.0.1.2", "127.0.1.3"} {
		for range most {
			conn, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}).DialContext(t.Context(), "tcp",
				strings.TrimPrefix(api, "http://"))
			if errors.Is(err, syscall.ECONNRESET) {
				continue // too many have made no request yet: it was closed before it was open
			}
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = conn.Close() })
			_, _ = io.WriteString(conn, "GET /v1/info HTTP/1.1\r\nHost: relay.example\r\n\r\n")
		}
	}
	asker := &http.Client{Timeout: 8 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	ask := func(path string) string {
		answer, err := asker.Get(management + path)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		if err != nil || answer.StatusCode != http.StatusOK {
			t.Fatalf("%s: %d, %v", path, answer.StatusCode, err)
		}
		return string(body)
	}
	count := regexp.MustCompile(`(?m)^obscura_connections (\d+)$`)
	wait.Eventually(t, "connections have what they may", func() bool {
		found := count.FindStringSubmatch(ask("/metrics"))
		if found == nil {
			t.Fatal("no metric of connections")
		}
		n, _ := strconv.Atoi(found[1])
		return n > most/2
	})
	ask("/readyz")
}
