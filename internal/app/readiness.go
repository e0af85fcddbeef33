package app

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"
)

const (
	// readyWithin bounds the checks of /readyz.
	readyWithin = 2 * time.Second
	// readyEvery is how often the relay looks by itself, for the metric and the log.
	readyEvery = 10 * time.Second
)

// The words of /readyz, which monitors may rely on.
const (
	partOK          = "ok"
	statusReady     = "ready"
	statusStopping  = "stopping"
	wordUnavailable = "unavailable" // of a part, and of the whole when a part is
)

// parts are what a node needs, by the names that /readyz, the metric and the log give them.
func (r *relay) parts() map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"database": r.mailbox.Probe, "notices": r.bus.RoundTrip, "blobs": r.probeBlobs,
	}
}

var errNoAnswer = fmt.Errorf("no answer within %s", readyWithin)

// check proves every part by a round trip, all at once: a part that is missing in broken is well.
// It does not heed the end of ctx: an asker who leaves, or a stop, says nothing about the parts.
func (r *relay) check(ctx context.Context) (broken map[string]error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readyWithin)
	defer cancel()
	type result struct {
		part string
		err  error
	}
	parts := r.parts()
	results := make(chan result, len(parts))
	broken = map[string]error{}
	for part, prove := range parts {
		broken[part] = errNoAnswer // until it says otherwise: a disk that hangs heeds no deadline
		go func() { results <- result{part, prove(ctx)} }()
	}
	for range parts {
		select {
		case got := <-results:
			if broken[got.part] = got.err; got.err == nil {
				delete(broken, got.part)
			}
		case <-ctx.Done():
			return r.note(broken)
		}
	}
	return r.note(broken)
}

// note keeps the metric, and says it when a part breaks and when it is well again.
func (r *relay) note(broken map[string]error) map[string]error {
	r.brokenParts.Lock()
	defer r.brokenParts.Unlock()
	for part := range r.parts() {
		err, was := broken[part], r.brokenParts.names[part]
		r.metrics.Ready(part, err == nil)
		switch {
		case err != nil && !was:
			r.logger.Warn("a part is unavailable; the relay goes on without it and looks again", "component", part,
				"error", err)
		case err == nil && was:
			r.logger.Info("a part is available again", "component", part)
		}
		r.brokenParts.names[part] = err != nil
	}
	return broken
}

// brokenParts are those that were unavailable when they were looked at last.
type brokenParts struct {
	sync.Mutex
	names map[string]bool // guarded by the mutex
}

// watchReadiness looks by itself, so that the log and the metric tell without anybody asking.
func (r *relay) watchReadiness(ctx context.Context) error {
	return every(ctx, readyEvery, func() {
		if !r.stopping.Load() {
			r.check(ctx)
		}
	})
}

// readyz answers 200 when all parts are well, just now, else 503 and names those that are not.
func (r *relay) readyz(w http.ResponseWriter, request *http.Request) {
	status, body := http.StatusOK, map[string]string{"status": statusReady}
	broken := r.check(request.Context())
	body["refused"] = r.pressure.Level().String()
	for part := range r.parts() {
		body[part] = partOK
		if broken[part] != nil {
			status, body["status"], body[part] = http.StatusServiceUnavailable, wordUnavailable, wordUnavailable
		}
	}
	if r.stopping.Load() {
		status, body["status"] = http.StatusServiceUnavailable, statusStopping
	}
	writeStatus(w, status, body)
}

// probeBlobs is for a few at a time: those that hang hold their places.
func (r *relay) probeBlobs(ctx context.Context) error {
	select {
	case r.probes <- struct{}{}:
		defer func() { <-r.probes }()
		err := r.blobs.Probe(ctx)
		if folder := r.store.Folder(); err != nil && folder != "" {
			err = fmt.Errorf("the folder %s: %w", folder, err)
		}
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
