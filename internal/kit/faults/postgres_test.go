package faults_test

import (
	"context"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/obscura-relay/obscura/internal/kit/testdb"
	"github.com/obscura-relay/obscura/internal/postgres"
)

// server is a real PostgreSQL with durable settings. The nodes reach it over TCP, through a bridge
// to its socket; the test itself goes straight to the socket, so it sees through the faults it
// makes.
type server struct {
	t      testing.TB
	folder string
	bridge net.Listener
	copies sync.WaitGroup

	mu      sync.Mutex
	cluster *postgres.Cluster     // guarded by mu; the last one that was started
	conns   map[net.Conn]struct{} // guarded by mu: of the bridge
}

func newServer(t testing.TB) *server {
	t.Helper()
	bridge, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, folder: t.TempDir(), bridge: bridge, conns: map[net.Conn]struct{}{}}
	s.copies.Go(s.accept)
	t.Cleanup(s.close)
	s.start(t)
	return s
}

func (s *server) start(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cluster, err := postgres.Start(ctx, postgres.Config{DataDir: s.folder, BinDir: testdb.BinDir(), MaxConnections: 120,
		Settings: map[string]string{"shared_buffers": "64MB"}})
	if err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	s.cluster = cluster
	s.mu.Unlock()
}

func (s *server) current() *postgres.Cluster {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cluster
}

// stop sends a signal to the server (SIGINT: fast, SIGQUIT: immediate, SIGKILL: a crash) and waits
// until it has gone.
func (s *server) stop(t testing.TB, sig syscall.Signal) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(s.folder, "cluster", "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(content), "\n")
	pid, err := strconv.Atoi(line)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, sig); err != nil {
		t.Fatal(err)
	}
	cluster := s.current()
	select {
	case <-cluster.Done():
	case <-t.Context().Done():
	}
	s.release(cluster)
}

// release gives the folder back; the server itself has ended or is made to.
func (s *server) release(cluster *postgres.Cluster) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := cluster.Stop(ctx); err != nil {
		s.t.Errorf("PostgreSQL did not stop: %v", err)
	}
}

func (s *server) close() {
	if cluster := s.current(); cluster != nil {
		s.release(cluster)
	}
	_ = s.bridge.Close()
	s.mu.Lock()
	for c := range s.conns {
		_ = c.Close()
	}
	s.mu.Unlock()
	s.copies.Wait()
}

// connect opens a connection that no fault touches.
func (s *server) connect(ctx context.Context) (*pgx.Conn, error) {
	return pgx.Connect(ctx, s.current().URL())
}

// accept is the bridge: what comes over TCP goes to the server's socket. While there is no server a
// connection ends at once.
func (s *server) accept() {
	for {
		from, err := s.bridge.Accept()
		if err != nil {
			return
		}
		s.copies.Go(func() { s.carry(from) })
	}
}

func (s *server) carry(from net.Conn) {
	u, err := url.Parse(s.current().URL())
	if err != nil {
		panic(err)
	}
	to, err := net.Dial("unix", filepath.Join(u.Query().Get("host"), ".s.PGSQL."+u.Query().Get("port")))
	if err != nil {
		_ = from.Close()
		return
	}
	s.mu.Lock()
	s.conns[from], s.conns[to] = struct{}{}, struct{}{}
	s.mu.Unlock()
	var both sync.WaitGroup
	for _, pair := range [][2]net.Conn{{from, to}, {to, from}} {
		both.Go(func() {
			_, _ = io.Copy(pair[1], pair[0])
			_, _ = from.Close(), to.Close()
		})
	}
	both.Wait()
	s.mu.Lock()
	delete(s.conns, from)
	delete(s.conns, to)
	s.mu.Unlock()
}
