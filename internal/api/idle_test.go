package api

import (
	"errors"
	"io"
	"net"
	"testing"

	"github.com/valyala/fasthttp"
	"golang.org/x/sys/unix"

	"github.com/obscura-relay/obscura/internal/kit/wait"
)

// TestEndingIdleConnectionsLosesNoRequestThatHasArrived ends three: one that waits, one whose next
// request has arrived and that the server has not read yet, and one that is being served.
func TestEndingIdleConnectionsLosesNoRequestThatHasArrived(t *testing.T) {
	t.Parallel()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	doors := NewListener(inner, nil, nil)
	defer doors.Abandon()
	pair := func() (client net.Conn, server *connection) {
		client, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = client.Close() })
		accepted, err := doors.Accept()
		if err != nil {
			t.Fatal(err)
		}
		return client, accepted.(*connection)
	}
	_, waits := pair()
	asks, asked := pair()
	served, serves := pair()
	for _, c := range []*connection{waits, asked, serves} {
		noteState(c, fasthttp.StateIdle)
	}
	serves.phase.Store(int32(working))
	if _, err := asks.Write([]byte("request")); err != nil {
		t.Fatal(err)
	}
	raw, err := asked.tcp.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	wait.Eventually(t, "the request has arrived", func() (there bool) {
		_ = raw.Control(func(fd uintptr) {
			n, _, err := unix.Recvfrom(int(fd), make([]byte, 16), unix.MSG_PEEK|unix.MSG_DONTWAIT)
			there = err == nil && n > 0
		})
		return there
	})
	ended := make(chan error, 1)
	go func() { _, err := waits.Read(make([]byte, 1)); ended <- err }()

	if n := doors.EndIdle(); n != 2 {
		t.Errorf("%d connections were idle, want 2", n)
	}
	if err := <-ended; !errors.Is(err, io.EOF) {
		t.Errorf("the one that waits: %v", err)
	}
	_ = waits.Close()
	told := func(from io.Reader, want string) {
		t.Helper()
		got := make([]byte, len(want))
		if _, err := io.ReadFull(from, got); err != nil || string(got) != want {
			t.Errorf("%q came, %v; want %q", got, err, want)
		}
	}
	told(asked, "request")
	if _, err := asked.Write([]byte("answer")); err != nil {
		t.Error(err)
	}
	told(asks, "answer")
	if _, err := served.Write([]byte("more")); err != nil {
		t.Error(err)
	}
	told(serves, "more")
	if n := doors.EndIdle(); n != 0 {
		t.Errorf("%d connections are idle after that", n)
	}
}
