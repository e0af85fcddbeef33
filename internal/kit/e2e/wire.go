package e2e

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

// Wire is a bare connection to a relay's API: of TCP, or of TLS if the relay speaks that.
type Wire struct {
	net.Conn
	// Reader reads from it, what has been read ahead first.
	Reader *bufio.Reader

	t testing.TB
}

// DialWire opens a connection that ends with the test.
func DialWire(t testing.TB, relay *relaytest.Relay) *Wire {
	t.Helper()
	return DialWireFrom(t, relay, "127.0.0.1", "")
}

// DialWireFrom is DialWire from an address of 127.0.0.0/8, with something sent before all else.
func DialWireFrom(t testing.TB, relay *relaytest.Relay, address, first string) *Wire {
	t.Helper()
	scheme, host, _ := strings.Cut(relay.API, "://")
	conn, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}).DialContext(t.Context(), "tcp", host)
	if err == nil {
		t.Cleanup(func() { _ = conn.Close() })
		_ = conn.SetDeadline(time.Now().Add(relaytest.Patience))
		_, err = io.WriteString(conn, first)
	}
	if err != nil {
		t.Fatal(err)
	}
	if scheme == "https" {
		conn = tls.Client(conn, &tls.Config{ServerName: "127.0.0.1", MinVersion: tls.VersionTLS12})
	}
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
