package testdb

import (
	"context"
	"io"
	"net"
	"net/url"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
)

// Proxy stands before a database and can go dead without closing a connection, as networks do.
type Proxy struct {
	// URL leads to the database through the proxy, over TCP.
	URL string
	// Close breaks every connection and listens no more. The end of the test does it as well; a
	// pool that is closed before waits for its dead connections.
	Close func()

	dead   atomic.Bool
	heard  atomic.Pointer[func(part []byte)]
	target atomic.Pointer[net.UnixAddr] // any network
}

// NewProxy puts a proxy before the database that a URL names, until the test ends.
func NewProxy(t testing.TB, database string) *Proxy {
	t.Helper()
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal("testdb: the URL of the database does not parse")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	q.Del("host")
	q.Del("port")
	u.Host, u.RawQuery = listener.Addr().String(), q.Encode()
	p := &Proxy{URL: u.String()}
	p.Turn(t, database)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	p.Close = sync.OnceFunc(func() { cancel(); _ = listener.Close(); running.Wait() })
	t.Cleanup(p.Close)
	running.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			target := *p.target.Load()
			server, err := (&net.Dialer{}).DialContext(ctx, target.Net, target.Name)
			if err != nil {
				_ = client.Close()
				continue
			}
			end := func() { _, _ = client.Close(), server.Close() }
			forget := context.AfterFunc(ctx, end)
			running.Go(func() { p.forward(server, client, p.heard.Load()); end(); forget() })
			running.Go(func() { p.forward(client, server, nil); end() })
		}
	})
	return p
}

// Turn makes new connections lead to another server, as a fail-over does. Those that are open stay
// where they are. Both servers know the database by one name.
func (p *Proxy) Turn(t testing.TB, database string) {
	t.Helper()
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal("testdb: the URL of the database does not parse")
	}
	target := net.UnixAddr{Net: "tcp", Name: u.Host}
	if q := u.Query(); u.Hostname() == "" { // a private cluster
		target = net.UnixAddr{Net: "unix", Name: filepath.Join(q.Get("host"), ".s.PGSQL."+q.Get("port"))}
	}
	p.target.Store(&target)
}

// Die makes the proxy swallow everything, on open connections and new ones, until Revive. What was
// swallowed is lost: those connections stay dead.
func (p *Proxy) Die() { p.dead.Store(true) }

// Revive makes the proxy forward again.
func (p *Proxy) Revive() { p.dead.Store(false) }

// Hear gives what goes to the database on connections that are made from now on to a function.
func (p *Proxy) Hear(heard func(part []byte)) { p.heard.Store(&heard) }

func (p *Proxy) forward(to io.Writer, from io.Reader, heard *func([]byte)) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		if p.dead.Load() {
			continue
		}
		if heard != nil {
			(*heard)(buf[:n])
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}
