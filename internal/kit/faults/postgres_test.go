package faults_test

import (
	"context"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/obscura-relay/obscura/internal/kit/testdb"
	"github.com/obscura-relay/obscura/internal/postgres"
)

// server is a real PostgreSQL with durable settings. The nodes reach its socket over TCP, each by a
// link of its own; the test itself goes straight to the socket, so it sees through the faults it
// makes.
type server struct {
	t                testing.TB
	folder, programs string

	mu      sync.Mutex
	cluster *postgres.Cluster // guarded by mu; the last one that was started
}

func newServer(t testing.TB) *server {
	t.Helper()
	return newServerOf(t, testdb.BinDir())
}

// newServerOf is newServer by the programs in a folder.
func newServerOf(t testing.TB, programs string) *server {
	t.Helper()
	s := &server{t: t, folder: t.TempDir(), programs: programs}
	t.Cleanup(s.close)
	s.start(t)
	return s
}

func (s *server) start(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cluster, err := postgres.Start(ctx, postgres.Config{DataDir: s.folder, BinDir: s.programs, MaxConnections: 120,
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
	case <-time.After(patience):
		t.Fatalf("PostgreSQL did not end on %s", sig)
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
}

// connect opens a connection that no fault touches.
func (s *server) connect(ctx context.Context) (*pgx.Conn, error) {
	return pgx.Connect(ctx, s.current().URL())
}

// dial connects to the server's socket, for a link: the nodes reach the server over TCP.
func (s *server) dial() (net.Conn, error) {
	u, err := url.Parse(s.current().URL())
	if err != nil {
		return nil, err
	}
	return net.Dial("unix", filepath.Join(u.Query().Get("host"), ".s.PGSQL."+u.Query().Get("port")))
}
