package tls_test

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/obscura-relay/obscura/internal/app"
	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
	"github.com/obscura-relay/obscura/internal/kit/testdb"
	"github.com/obscura-relay/obscura/internal/kit/wait"
)

func TestMailPassesOverTLS(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t, secure(t))
	if !strings.HasPrefix(relay.API, "https://127.0.0.1:") {
		t.Fatalf("the relay is at %s", relay.API)
	}
	alice, bob := relay.Register(t).NewDevice(t), relay.Register(t).NewDevice(t)
	large := strings.Repeat("x", 250_000)
	alice.Send(t, nil, relaytest.To(bob.ID, large), relaytest.To(bob.ID, "small"))
	socket := bob.Connect(t)
	if got := receive(t, socket, 2); got[0] != large || got[1] != "small" {
		t.Error("the envelopes are others")
	}
	blob := strings.Repeat("y", 5<<20)
	id := e2e.Ask{Method: "POST", Path: "/v1/attachments", Token: alice.Token, Media: "application/octet-stream",
		Body: blob}.To(t, relay).Want(t, 201, "").Member(t, "id")
	back := e2e.Ask{Method: "GET", Path: "/v1/attachments/" + id, Token: bob.Token}.To(t, relay).Want(t, 200, "")
	if string(back.Body) != blob {
		t.Error("the attachment is another")
	}
	if seconds := e2e.Meter(t, relay, "obscura_tls_certificate_expiry_seconds") - float64(time.Now().Unix()); seconds < 3500 ||
		seconds > 3600 {
		t.Errorf("the certificate of an hour ends in %v s", seconds)
	}
	relay.Stop()
	for range 3 { // what was sent before the end may still come
		if _, err := socket.Frame(); err != nil {
			if status := websocket.CloseStatus(err); status != websocket.StatusGoingAway {
				t.Errorf("the socket was closed with %d: %v", status, err)
			}
			return
		}
	}
	t.Error("the socket outlives the relay")
}

// receive reads envelopes.
func receive(t *testing.T, socket *relaytest.Socket, n int) (got []string) {
	t.Helper()
	for len(got) < n {
		frame, err := socket.Frame()
		if err != nil {
			t.Fatal(err)
		}
		for _, envelope := range frame.GetEnvelopeBatch().GetEnvelopes() {
			got = append(got, string(envelope.GetMessage()))
		}
	}
	return got
}

// shake opens a connection with a client's configuration.
func shake(t *testing.T, relay *relaytest.Relay, config *tls.Config) (*tls.ConnectionState, error) {
	t.Helper()
	config.RootCAs = authority.Pool()
	conn, err := tls.Dial("tcp", strings.TrimPrefix(relay.API, "https://"), config)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	state := conn.ConnectionState()
	return &state, nil
}

func TestOldVersionsAndOtherProtocolsAreRefused(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t, secure(t))
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		state, err := shake(t, relay, &tls.Config{MinVersion: version, MaxVersion: version,
			NextProtos: []string{"h2", "http/1.1"}})
		if err != nil || state.Version != version || state.NegotiatedProtocol != "http/1.1" {
			t.Errorf("version %x: %v, %v", version, state, err)
		}
	}
	for what, config := range map[string]*tls.Config{
		"TLS 1.1":     {MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11},
		"HTTP/2 only": {NextProtos: []string{"h2"}},
		"ACME's own":  {NextProtos: []string{"acme-tls/1"}},
	} {
		if _, err := shake(t, relay, config); err == nil || !strings.HasPrefix(err.Error(), "remote error: tls: ") {
			t.Errorf("%s: %v, want an alert", what, err)
		}
	}
	response, err := http.Get("http://" + strings.TrimPrefix(relay.API, "https://")) //nolint:forbidigo,bodyclose // no answer is due
	if err == nil {
		t.Errorf("plain HTTP is answered: %s", response.Status)
	}
}

func TestPlainHTTPLeadsToTLS(t *testing.T) {
	t.Parallel()
	at := testdb.FreeAddress(t)
	relay := relaytest.Start(t, secure(t), func(c *app.Config) { c.HTTPListen = at })
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: relaytest.Patience,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for host, want := range map[string]string{"relay.example.org": "relay.example.org",
		"relay.example.org:80": "relay.example.org", "[2001:db8::1]:80": "[2001:db8::1]", "[2001:db8::1]": "[2001:db8::1]"} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+at+"/v1/users?x=%2F", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		request.Host = host
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if got := response.Header.Get("Location"); response.StatusCode != 308 || got != "https://"+want+"/v1/users?x=%2F" {
			t.Errorf("%s: %d to %s", host, response.StatusCode, got)
		}
	}
	relay.Stop()
	if conn, err := net.Dial("tcp", at); err == nil {
		_ = conn.Close()
		t.Error("plain HTTP outlives the relay")
	}
}

// A client has no longer for its handshake than for a request, however it spends the time.
func TestAHandshakeIsBoundedInTime(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t, secure(t), func(c *app.Config) { c.ReadTimeout = time.Second })
	hello := clientHello(t)
	for what, send := range map[string]func(i int) []byte{
		"silent":              func(int) []byte { return nil },
		"a byte now and then": func(i int) []byte { return hello[i : i+1] },
	} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(relay.API, "https://"))
		if err != nil {
			t.Fatal(err)
		}
		begun, ended := time.Now(), make(chan struct{})
		go func() {
			defer close(ended)
			_ = conn.SetReadDeadline(begun.Add(relaytest.Patience))
			_, _ = io.Copy(io.Discard, conn)
		}()
		tick := time.NewTicker(50 * time.Millisecond)
		for i, open := 0, true; open; i++ {
			select {
			case <-ended:
				open = false
			case <-tick.C:
				_, _ = conn.Write(send(i % len(hello)))
			}
		}
		tick.Stop()
		_ = conn.Close()
		if took := time.Since(begun); took < 900*time.Millisecond || took > 5*time.Second {
			t.Errorf("%s: closed after %v", what, took)
		}
	}
}

// clientHello is how a handshake begins.
func clientHello(t *testing.T) []byte {
	t.Helper()
	ours, theirs := net.Pipe()
	defer func() { _ = ours.Close() }()
	go func() { _ = tls.Client(theirs, &tls.Config{ServerName: "localhost"}).Handshake(); _ = theirs.Close() }()
	hello := make([]byte, 200)
	if _, err := io.ReadFull(ours, hello); err != nil {
		t.Fatal(err)
	}
	return hello
}

func TestANewCertificateIsServedWithoutARestart(t *testing.T) {
	t.Parallel()
	certificate, key := authority.Files(t)
	relay := relaytest.Start(t, func(c *app.Config) { c.TLSCertificate, c.TLSKey = certificate, key })
	device := relay.Register(t).NewDevice(t)
	socket := device.Connect(t)
	serial := func() string {
		state, err := shake(t, relay, &tls.Config{})
		if err != nil {
			t.Fatal(err)
		}
		return state.PeerCertificates[0].SerialNumber.String()
	}
	before := serial()
	otherCertificate, otherKey := authority.Files(t)
	for from, to := range map[string]string{otherCertificate: certificate, otherKey: key} {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	wait.Eventually(t, "the new certificate is served", func() bool { return serial() != before })
	device.Send(t, nil, relaytest.To(device.ID, "after"))
	receive(t, socket, 1) // the socket goes on
}

func TestAnAnswerOutlivesABodyThatIsNotRead(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t, secure(t))
	device := relay.Register(t).NewDevice(t)
	e2e.Ask{Method: "POST", Path: "/v1/messages", Token: device.Token, Body: strings.Repeat("x", 30<<20),
		Media: "application/x-protobuf"}.To(t, relay).Want(t, 413, "body_too_large")
}
