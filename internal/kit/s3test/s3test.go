// Package s3test is an S3 server in the test process, which can fail in the ways of a real one. A
// process that imports it has credentials for it. For tests only.
package s3test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
)

func init() {
	_ = os.Setenv("AWS_ACCESS_KEY_ID", "key")
	_ = os.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
}

const bucket = "blobs"

// Mode is how a server answers.
type Mode int32

// The modes.
const (
	Fine   Mode = iota
	Fail        // 500 to everything
	Hang        // no answer
	Cut         // the connection breaks
	Lie         // 500, although it was done
	Frozen      // it reads no more of a body, and does not answer
)

// Server is an S3 server with one bucket.
type Server struct {
	// URL is for blob.Open.
	URL string
	// Backend is what it holds.
	Backend gofakes3.Backend

	mode   atomic.Int32
	method atomic.Value // the only one that fails, "" for all
	seen   atomic.Int64
	stop   chan struct{}
}

// New starts a server that stops with the test.
func New(t testing.TB) *Server {
	t.Helper()
	s := &Server{Backend: s3mem.New(), stop: make(chan struct{})}
	s.method.Store("")
	if err := s.Backend.CreateBucket(bucket); err != nil {
		t.Fatal(err)
	}
	fake := gofakes3.New(s.Backend, gofakes3.WithLogger(gofakes3.DiscardLog())).Server()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.serve(fake, w, r) }))
	t.Cleanup(func() {
		close(s.stop)
		server.CloseClientConnections()
		server.Close()
	})
	s.URL = "s3://" + bucket + "?" + url.Values{"endpoint": {server.URL}, "use_path_style": {"true"},
		"region": {"us-east-1"}}.Encode()
	return s
}

// Be changes how it answers requests of a method, "" for all.
func (s *Server) Be(mode Mode, method string) {
	s.method.Store(method)
	s.mode.Store(int32(mode))
}

// Failed counts the requests that it failed.
func (s *Server) Failed() int { return int(s.seen.Load()) }

func (s *Server) serve(fake http.Handler, w http.ResponseWriter, r *http.Request) {
	mode, method := Mode(s.mode.Load()), s.method.Load().(string)
	if mode == Fine || method != "" && method != r.Method {
		fake.ServeHTTP(w, r)
		return
	}
	s.seen.Add(1)
	switch mode {
	case Fail:
		http.Error(w, "<Error><Code>InternalError</Code></Error>", http.StatusInternalServerError)
	case Lie:
		fake.ServeHTTP(httptest.NewRecorder(), r)
		http.Error(w, "<Error><Code>InternalError</Code></Error>", http.StatusInternalServerError)
	case Hang, Frozen:
		if mode == Frozen {
			_, _ = r.Body.Read(make([]byte, 1))
		}
		select {
		case <-r.Context().Done():
		case <-s.stop:
		}
		panic(http.ErrAbortHandler)
	case Cut:
		panic(http.ErrAbortHandler)
	}
}

// Keys lists what the bucket holds.
func (s *Server) Keys(t testing.TB) []string {
	t.Helper()
	list, err := s.Backend.ListBucket(bucket, nil, gofakes3.ListBucketPage{})
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, object := range list.Contents {
		keys = append(keys, strings.Clone(object.Key))
	}
	return keys
}
