package e2e

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// Wall stands between a node and its database. It tells connections apart by the application name
// in their startup message, and can freeze them (nothing passes, nothing closes) or take the
// database away.
type Wall struct {
	network, address string
	listener         net.Listener
	wg               sync.WaitGroup

	mu     sync.Mutex
	cond   *sync.Cond
	frozen string            // guarded by mu: the application name, "" for none
	deaf   bool              // guarded by mu: notices do not pass
	away   bool              // guarded by mu
	open   map[net.Conn]bool // guarded by mu
}

// NewWall returns the wall and the URL that leads through it.
func NewWall(t testing.TB, databaseURL string) (*Wall, string) {
	t.Helper()
	cfg, err := pgconn.ParseConfig(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	w := &Wall{open: map[net.Conn]bool{}}
	w.cond = sync.NewCond(&w.mu)
	w.network, w.address = pgconn.NetworkAddress(cfg.Host, cfg.Port)
	if w.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	w.wg.Go(func() {
		for {
			conn, err := w.listener.Accept()
			if err != nil {
				return
			}
			w.wg.Go(func() { w.serve(conn) })
		}
	})
	t.Cleanup(func() {
		_ = w.listener.Close()
		w.Freeze("")
		w.Leave()
		w.wg.Wait()
	})
	u := url.URL{Scheme: "postgres", User: url.UserPassword(cfg.User, cfg.Password), Host: w.listener.Addr().String(),
		Path: "/" + cfg.Database, RawQuery: "sslmode=disable"}
	return w, u.String()
}

func (w *Wall) serve(client net.Conn) {
	defer func() { _ = client.Close() }()
	head := make([]byte, 4)
	if _, err := io.ReadFull(client, head); err != nil {
		return
	}
	startup := make([]byte, binary.BigEndian.Uint32(head)-4)
	if _, err := io.ReadFull(client, startup); err != nil {
		return
	}
	name := "obscura"
	if strings.Contains(string(startup), "obscura-notices") {
		name = "obscura-notices"
	}
	server, err := (&net.Dialer{}).DialContext(context.Background(), w.network, w.address)
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	if !w.enter(client, server) {
		return
	}
	if _, err := server.Write(append(head, startup...)); err != nil {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { w.copy(name, server, client) })
	both.Go(func() { w.copy(name, client, &unnoticed{Conn: server, wall: w}) })
	both.Wait()
}

// enter remembers the two ends, unless the database is unavailable.
func (w *Wall) enter(conns ...net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range conns {
		w.open[c] = true
	}
	return !w.away
}

func (w *Wall) copy(name string, to, from net.Conn) {
	defer func() { _ = to.Close(); _ = from.Close() }()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		w.mu.Lock()
		for w.frozen == name {
			w.cond.Wait()
		}
		w.mu.Unlock()
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

// Freeze holds back everything of the connections of an application name; "" lets all pass again.
func (w *Wall) Freeze(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.frozen = name
	w.cond.Broadcast()
}

// Deafen holds back all notices, on every connection. All else passes: whoever asks is answered.
func (w *Wall) Deafen() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.deaf = true
}

// unnoticed is a connection from the server whose notices can be left out.
type unnoticed struct {
	net.Conn
	wall *Wall
	next []byte // what is left of a message
}

// Read returns no more than one message of the server.
func (u *unnoticed) Read(p []byte) (int, error) {
	for len(u.next) == 0 {
		head := make([]byte, 5) // the kind of the message, and its length without the kind
		if _, err := io.ReadFull(u.Conn, head); err != nil {
			return 0, err
		}
		body := make([]byte, binary.BigEndian.Uint32(head[1:])-4)
		if _, err := io.ReadFull(u.Conn, body); err != nil {
			return 0, err
		}
		u.wall.mu.Lock()
		deaf := u.wall.deaf
		u.wall.mu.Unlock()
		if head[0] != 'A' || !deaf {
			u.next = slices.Concat(head, body)
		}
	}
	n := copy(p, u.next)
	u.next = u.next[n:]
	return n, nil
}

// Leave takes the database away: connections break and new ones are closed at once.
func (w *Wall) Leave() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.away = true
	for c := range w.open {
		_ = c.Close()
	}
	clear(w.open)
}

// ComeBack lets new connections in.
func (w *Wall) ComeBack() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.away = false
}
