package storage

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/obscura-relay/obscura/internal/core"
)

// enters fails the test unless there is a place at once.
func enters(t *testing.T, g *gate, bucket int16) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := g.enter(ctx, bucket); err != nil {
		t.Errorf("bucket %d: %v", bucket, err)
	}
}

// refuses fails the test unless it is refused at once.
func refuses(t *testing.T, g *gate, bucket int16) {
	t.Helper()
	if _, err := g.enter(t.Context(), bucket); !errors.Is(err, errSilent) || core.KindOf(err) != core.Unavailable {
		t.Errorf("bucket %d: %v", bucket, err)
	}
}

// waits waits for a place until the channel says so, or tells why there is none.
func waits(ctx context.Context, t *testing.T, g *gate, bucket int16) <-chan error {
	t.Helper()
	got := make(chan error, 1)
	go func() { _, err := g.enter(ctx, bucket); got <- err }()
	synctest.Wait()
	if len(got) > 0 {
		t.Errorf("bucket %d: it did not wait: %v", bucket, <-got)
	}
	return got
}

// A bucket that takes connections and gives none back leaves each other one its share.
func TestABucketThatHangsLeavesConnectionsToTheOthers(t *testing.T) {
	t.Parallel()
	for _, of := range []struct{ most, buckets, half, share int }{{16, 4, 8, 4}, {4, 3, 2, 1}, {4, 8, 2, 1}} {
		synctest.Test(t, func(t *testing.T) {
			g := newGate(of.most, of.buckets, slog.New(slog.DiscardHandler))
			for range of.half {
				enters(t, g, 0)
			}
			ctx, cancel := context.WithCancel(t.Context())
			hung := waits(ctx, t, g, 0)
			for range of.share {
				enters(t, g, 1)
			}
			waiting := waits(t.Context(), t, g, 1)
			g.leave(1, false, available)
			if err := <-waiting; err != nil {
				t.Error(err)
			}
			cancel()
			if err := <-hung; core.KindOf(err) != core.Unavailable {
				t.Error(err)
			}
			for range of.half {
				g.leave(0, false, unknown)
			}
			for range of.share {
				g.leave(1, false, available)
			}
			if g.held != 0 || g.waiting != 0 || g.buckets[0].held != 0 || len(g.buckets[0].waiting) != 0 {
				t.Errorf("left are %d, %d wait", g.held, g.waiting)
			}
		})
	}
}

// What waits for half of the pool to be free gets it when another bucket gives it back.
func TestAPlaceGoesToWhoWaitsForAnotherBucket(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGate(8, 8, slog.New(slog.DiscardHandler))
		for _, bucket := range []int16{0, 1, 1, 1} {
			enters(t, g, bucket)
		}
		waiting := waits(t.Context(), t, g, 0)
		g.leave(1, false, available)
		if err := <-waiting; err != nil {
			t.Error(err)
		}
	})
}

// A bucket that did not answer for long is asked once in half a second, and those that wait for it
// hear so at once.
func TestABucketThatDidNotAnswerIsPaused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		g := newGate(16, 4, slog.New(slog.NewTextHandler(&log, nil)))
		for range 8 {
			enters(t, g, 0)
		}
		waiting := waits(t.Context(), t, g, 0)
		g.leave(0, false, silent)
		if err := <-waiting; !errors.Is(err, errSilent) {
			t.Error(err)
		}
		refuses(t, g, 0)
		enters(t, g, 1)
		var tries int
		for range 6 { // four, a quarter of the pool, which hang as well
			time.Sleep(silencePause) // fake time
			if try, err := g.enter(t.Context(), 0); err == nil && try {
				tries++
			}
			refuses(t, g, 0)
		}
		if tries != 4 {
			t.Errorf("%d tries", tries)
		}
		g.leave(0, true, silent)
		time.Sleep(silencePause) // fake time
		try, err := g.enter(t.Context(), 0)
		if !try || err != nil {
			t.Errorf("%v, %v", try, err)
		}
		for range 7 {
			g.leave(0, false, unknown)
		}
		g.leave(0, try, available)
		enters(t, g, 0)
		if text := log.String(); strings.Count(text, "does not answer") != 1 || strings.Count(text, "answers again") != 1 ||
			!strings.Contains(text, "component=storage") {
			t.Errorf("the log: %s", text)
		}
	})
}

// What touches several buckets does not tell which of them hangs.
func TestWhatTouchesSeveralBucketsPausesNone(t *testing.T) {
	t.Parallel()
	g := newGate(4, 2, slog.New(slog.DiscardHandler))
	enters(t, g, 2)
	g.leave(2, false, silent)
	for bucket := range int16(3) {
		enters(t, g, bucket)
	}
}

func TestAVerdictIsOnTheBucketAndNotOnTheCaller(t *testing.T) {
	t.Parallel()
	late, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	for name, tt := range map[string]struct {
		ctx  context.Context
		err  error
		took time.Duration
		want verdict
	}{
		"an answer":                          {t.Context(), nil, time.Minute, available},
		"an answer to a caller that is gone": {late, nil, 0, available},
		"a caller's own deadline":            {late, context.DeadlineExceeded, time.Millisecond, unknown},
		"a deadline after a long time":       {late, context.DeadlineExceeded, silence, silent},
		"a connection that ends":             {t.Context(), io.ErrUnexpectedEOF, time.Millisecond, away},
		"one that ends after long":           {t.Context(), io.ErrUnexpectedEOF, time.Minute, away},
		"a server behind it that is gone":    {t.Context(), &pgconn.PgError{Code: "08006"}, silence, silent},
		"a refusal":                          {t.Context(), core.ErrUnauthorized, time.Minute, available},
		"a lock that was not to be had":      {t.Context(), &pgconn.PgError{Code: "55P03"}, time.Minute, available},
		"a statement that took too long":     {t.Context(), &pgconn.PgError{Code: "57014"}, time.Minute, silent},
	} {
		if got := verdictOn(tt.ctx, tt.err, tt.took); got != tt.want {
			t.Errorf("%s: %d, want %d", name, got, tt.want)
		}
	}
}
