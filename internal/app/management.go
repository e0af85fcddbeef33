package app

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof" // its own handlers are on a mux that nobody serves, and on ours by --pprof only
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// managementServer serves /livez, /readyz, /metrics and /log-level, and profiles when it is asked
// to.
func (r *relay) managementServer(profiles bool) *http.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		writeStatus(w, http.StatusOK, map[string]string{"status": "alive"})
	})
	mux.HandleFunc("GET /readyz", r.readyz)
	mux.Handle("GET /metrics", promhttp.HandlerFor(r.metrics.Registry(), promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /log-level", r.tellLevel)
	mux.HandleFunc("PUT /log-level", r.setLevel)
	if profiles {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	log := r.logger.With("component", "management")
	return &http.Server{Handler: mux, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		ReadTimeout: 5 * time.Second, WriteTimeout: 10 * time.Second}
}

func (r *relay) tellLevel(w http.ResponseWriter, _ *http.Request) {
	writeStatus(w, http.StatusOK, map[string]string{"level": strings.ToLower(r.level.Level().String())})
}

// setLevel takes debug, info, warn or error, until the relay ends.
func (r *relay) setLevel(w http.ResponseWriter, request *http.Request) {
	text, err := io.ReadAll(http.MaxBytesReader(w, request.Body, 16))
	var level slog.Level
	if err == nil {
		err = level.UnmarshalText(bytes.TrimSpace(text))
	}
	if err != nil || !isLevel(level) {
		writeStatus(w, http.StatusBadRequest, map[string]string{"error": "The body must be debug, info, warn or error."})
		return
	}
	r.level.Set(min(r.level.Level(), level)) // so that the line is written if it was before
	r.logger.Warn("somebody has set the level of the log", "component", "log", "to", level)
	r.level.Set(level)
	r.tellLevel(w, request)
}

// isLevel reports whether a level has a name. Others are between them, or keep errors back.
func isLevel(level slog.Level) bool {
	return slices.Contains([]slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError}, level)
}

func serveUntilClosed(server *http.Server, listener net.Listener) error {
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func writeStatus(w http.ResponseWriter, status int, body map[string]string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}
