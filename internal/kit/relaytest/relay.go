// Package relaytest runs the whole relay inside a test, on a database of its own, and talks to it
// as clients do: over real sockets, with the generated client, real keys and real frames.
//
// Invariant: every HTTP answer that a test sees through this package is validated against the
// contract; an undeclared status, header or field fails the test. For tests only.
package relaytest

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	obscura "github.com/obscura-relay/obscura/clients/go"
	"github.com/obscura-relay/obscura/gen/client"
	"github.com/obscura-relay/obscura/internal/app"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/core/account"
	"github.com/obscura-relay/obscura/internal/kit/testdb"
	"github.com/obscura-relay/obscura/internal/kit/wait"
)

// Patience bounds every wait of a test.
const Patience = wait.Patience

// Main is the body of the TestMain of a package that runs relays. The options are for goroutines
// that are left.
func Main(m *testing.M, others ...goleak.Option) {
	testdb.Main(m, append(others,
		// fasthttp keeps one clock a process, and a stopped worker pool's cleaner until its next
		// round.
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"))...)
}

// Relay is a running relay.
type Relay struct {
	// API and Management are URLs.
	API, Management string
	// DatabaseURL is the relay's database, for a second relay or a look inside.
	DatabaseURL string
	// Blobs is the folder of its blob store, unless the test chose another store.
	Blobs string
	// Log is everything that the relay has logged.
	Log *Log

	t    testing.TB
	http *http.Client
	stop func()
}

// Config returns what tests run with: free ports, rate limits off, a short poll, an empty folder
// for blobs.
func Config(t testing.TB, databaseURL string) app.Config {
	t.Helper()
	return app.Config{
		Listen: "127.0.0.1:0", ManagementListen: "127.0.0.1:0",
		Database:        app.Database{DatabaseURL: databaseURL},
		BlobURL:         folderURL(t.TempDir()),
		Registration:    core.RegistrationOpen,
		AttachmentQuota: 10 << 30, AttachmentDailyQuota: 2 << 30,
		DatabaseConnections: 8, Migrate: true, RateLimits: "off",
		Push:        app.Push{PushContact: "mailto:push@example.org"},
		ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second, IdleTimeout: 30 * time.Second,
		RequestTimeout: 10 * time.Second, PollInterval: time.Second, ShutdownTimeout: 5 * time.Second,
		LogFormat: "json", LogLevel: slog.LevelDebug,
	}
}

// Start runs a relay on a fresh database until the test ends.
func Start(t testing.TB, change ...func(*app.Config)) *Relay {
	t.Helper()
	return StartOn(t, testdb.NewURL(t), change...)
}

// StartOn runs a relay on a database that there is: a second node, or after a restart.
func StartOn(t testing.TB, databaseURL string, change ...func(*app.Config)) *Relay {
	t.Helper()
	return StartWith(t, databaseURL, nil, change...)
}

// StartWith is StartOn with options of the relay. Passwords cost a hundredth of what they cost in
// earnest, or half the processor time of all tests would be theirs; account.FullCost is for tests
// about that.
func StartWith(t testing.TB, databaseURL string, options []app.Option, change ...func(*app.Config)) *Relay {
	t.Helper()
	cfg := Config(t, databaseURL)
	folder := blobFolder(t, databaseURL)
	cfg.BlobURL = folderURL(folder)
	for _, c := range change {
		c(&cfg)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan app.Addresses, 1), make(chan error, 1)
	r := &Relay{DatabaseURL: databaseURL, Blobs: folder, Log: &Log{}, t: t}
	options = append([]app.Option{app.WithPasswordCost(account.Cost{KiB: 256, Passes: 1})}, options...)
	go func() { ended <- app.Run(ctx, cfg, r.Log, func(at app.Addresses) { ready <- at }, options...) }()
	select {
	case at := <-ready:
		r.API, r.Management = at.API, at.Management
	case err := <-ended:
		cancel()
		t.Fatalf("the relay did not start: %v\n%s", err, r.Log)
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	r.http = &http.Client{Transport: Validated(t, transport), Timeout: Patience}
	r.stop = sync.OnceFunc(func() {
		transport.CloseIdleConnections()
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the relay ended with: %v", err)
		}
	})
	t.Cleanup(r.stop)
	return r
}

func folderURL(folder string) string { return (&url.URL{Scheme: "file", Path: folder}).String() }

var blobFolders sync.Map // from the URL of a database

// blobFolder is where the relays on one database keep their blobs, until the first of their tests
// ends.
func blobFolder(t testing.TB, databaseURL string) string {
	t.Helper()
	if folder, ok := blobFolders.Load(databaseURL); ok {
		return folder.(string)
	}
	folder, _ := blobFolders.LoadOrStore(databaseURL, t.TempDir())
	return folder.(string)
}

// Stop stops the relay as SIGTERM does, and waits.
func (r *Relay) Stop() { r.stop() }

// HTTP is a client whose answers are validated against the contract.
func (r *Relay) HTTP() *http.Client { return r.http }

// entrance is the relay as an application sees it.
func (r *Relay) entrance(t testing.TB) *obscura.Relay {
	t.Helper()
	relay, err := obscura.New(r.API, obscura.Options{HTTPClient: r.http})
	if err != nil {
		t.Fatal(err)
	}
	return relay
}

// Client is the generated client; token may be empty.
func (r *Relay) Client(token string) *client.ClientWithResponses {
	r.t.Helper()
	c, err := client.NewClientWithResponses(r.API, client.WithHTTPClient(r.http),
		client.WithRequestEditorFn(func(_ context.Context, request *http.Request) error {
			if token != "" {
				request.Header.Set("Authorization", "Bearer "+token)
			}
			return nil
		}))
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

// Log keeps what a relay logs.
type Log struct {
	mu  sync.Mutex
	buf bytes.Buffer // guarded by mu
}

// Write implements io.Writer.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

// String returns all of it.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}
