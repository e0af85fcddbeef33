package app

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// readyWithin bounds the checks of /readyz.
const readyWithin = 2 * time.Second

// managementServer serves /livez, /readyz and /metrics.
func (r *relay) managementServer() *http.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		writeStatus(w, http.StatusOK, map[string]string{"status": "alive"})
	})
	mux.HandleFunc("GET /readyz", r.readyz)
	mux.Handle("GET /metrics", promhttp.HandlerFor(r.metrics.Registry(), promhttp.HandlerOpts{}))
	return &http.Server{Handler: mux, ErrorLog: slog.NewLogLogger(r.logger.Handler(), slog.LevelWarn), ReadTimeout: 5 * time.Second, WriteTimeout: 10 * time.Second}
}

func (r *relay) serveManagement(listener net.Listener) error {
	if err := r.management.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// readyz proves by round trips that the database answers, that wake-ups arrive and that the blob store keeps what it
// is given.
func (r *relay) readyz(w http.ResponseWriter, request *http.Request) {
	ctx, cancel := context.WithTimeout(request.Context(), readyWithin)
	defer cancel()
	status, body := http.StatusOK, map[string]string{"status": "ready", "database": "ok", "wakeups": "ok", "blobs": "ok"}
	fail := func(part, why string) {
		status, body["status"], body[part] = http.StatusServiceUnavailable, "not ready", why
	}
	blobs := make(chan error, 1)
	go func() { blobs <- r.probeBlobs(ctx) }() // beside the others: each has all the time
	if err := r.db.main.Ready(ctx); err != nil {
		fail("database", "does not answer")
	}
	if err := r.bus.RoundTrip(ctx); err != nil {
		fail("wakeups", "do not arrive")
	}
	select {
	case err := <-blobs:
		if err != nil {
			fail("blobs", "are not kept")
		}
	case <-ctx.Done(): // a disk that hangs heeds no deadline
		fail("blobs", "are not kept")
	}
	if r.stopping.Load() {
		fail("status", "stopping")
	}
	writeStatus(w, status, body)
}

// probeBlobs is for a few at a time: those that hang hold their places.
func (r *relay) probeBlobs(ctx context.Context) error {
	select {
	case r.probes <- struct{}{}:
		defer func() { <-r.probes }()
		return r.blobs.Probe(ctx)
	case <-ctx.Done():
		return ctx.Err()
	}
}

func writeStatus(w http.ResponseWriter, status int, body map[string]string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}
