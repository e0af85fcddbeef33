package e2e

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

// Wire is a bare TCP connection to a relay's API.
type Wire struct {
	net.Conn
	// Reader reads from it, what has been read ahead first.
	Reader *bufio.Reader

	t testing.TB
}

// DialWire opens a connection that ends with the test.
func DialWire(t testing.TB, relay *relaytest.Relay) *Wire {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(relay.API, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(relaytest.Patience))
	return &Wire{Conn: conn, t: t, Reader: bufio.NewReader(conn)}
}

// Send writes raw bytes.
func (w *Wire) Send(text string) {
	w.t.Helper()
	if _, err := io.WriteString(w, text); err != nil {
		w.t.Fatal(err)
	}
}

// Reply reads one answer to a request that the relay cannot read.
func (w *Wire) Reply() Reply {
	w.t.Helper()
	return w.Answer(nil)
}

// ReplyTo reads the answer to a request that was sent whole.
func (w *Wire) ReplyTo(method, path string) Reply {
	w.t.Helper()
	return w.Answer(&http.Request{Method: method, URL: &url.URL{Path: path}})
}

// Answer reads one answer and holds it against the contract; see relaytest.Check.
func (w *Wire) Answer(request *http.Request) Reply {
	w.t.Helper()
	response, err := http.ReadResponse(w.Reader, request) //nolint:bodyclose // ReadReply closes it
	if err != nil {
		w.t.Fatalf("no answer: %v", err)
	}
	got := ReadReply(w.t, response)
	relaytest.Check(w.t, request, response, got.Body)
	return got
}

// Ended reports whether the relay has closed the connection; it waits for that.
func (w *Wire) Ended() bool {
	_, err := w.Reader.ReadByte()
	netErr, ok := err.(net.Error) //nolint:errorlint // from the connection itself
	return err != nil && (!ok || !netErr.Timeout())
}
