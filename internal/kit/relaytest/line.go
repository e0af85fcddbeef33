package relaytest

import (
	"context"
	"io"
	"net"
	"net/url"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Line is a way to the relay that carries so many bytes a second towards the client, until the test
// ends.
type Line struct {
	// URL is the relay's, through the line.
	URL string

	rate     int
	to       string
	listener net.Listener
	ended    context.Context
	end      context.CancelFunc
	wg       sync.WaitGroup
}

// NewLine makes a line to the server at a URL. Hardly anything waits in it: the server sees what
// the client has taken.
func NewLine(t testing.TB, server string, rate int) *Line {
	t.Helper()
	at, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	l := &Line{rate: rate, to: at.Host}
	if l.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	l.URL = "http://" + l.listener.Addr().String()
	l.ended, l.end = context.WithCancel(context.Background())
	l.wg.Go(func() {
		for {
			client, err := l.listener.Accept()
			if err != nil {
				return
			}
			l.wg.Go(func() { l.serve(client) })
		}
	})
	t.Cleanup(func() {
		l.end()
		_ = l.listener.Close()
		l.wg.Wait()
	})
	return l
}

func (l *Line) serve(client net.Conn) {
	small := func(_, _ string, c syscall.RawConn) (err error) { // before the handshake, which tells the window
		return c.Control(func(fd uintptr) {
			err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096)
		})
	}
	server, err := (&net.Dialer{Control: small}).DialContext(l.ended, "tcp", l.to)
	if err != nil {
		_ = client.Close()
		return
	}
	hangUp := func() { _, _ = client.Close(), server.Close() }
	defer context.AfterFunc(l.ended, hangUp)()
	var both sync.WaitGroup
	both.Go(func() { _, _ = io.Copy(server, client); hangUp() })
	both.Go(func() { l.shape(client, server); hangUp() })
	both.Wait()
}

// shape passes on a fiftieth of a second's bytes at a time.
func (l *Line) shape(client, server net.Conn) {
	tick := time.NewTicker(time.Second / 50)
	defer tick.Stop()
	for range tick.C {
		if _, err := io.CopyN(client, server, int64(max(1, l.rate/50))); err != nil {
			return
		}
	}
}
