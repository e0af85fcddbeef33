package notice

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/obscura-relay/obscura/gen/db"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/storage"
)

var errNotBack = errors.New("a probe was notified and did not come back")

var errNotYet = errors.New("the connection that listens is not open yet")

// errDeaf is why a relay does not start.
var errDeaf = errors.New("notices do not come back: the database notified, and the connection that listens did not hear of it within " +
	patience.String() + ". LISTEN needs a session of its own on the primary: let the database URL name the server itself, " +
	"or a PgBouncer with pool_mode = session")

// Prove tries whether a notice through a pool comes back on a connection that listens at a URL. It
// is for the start: a relay that could not hear would check every token against the database for
// ever.
func Prove(ctx context.Context, url string, requests *storage.DB) error {
	b := New(Config{URL: url, Requests: requests, Receive: func(core.Notice) {}, Logger: slog.New(slog.DiscardHandler)})
	conn, err := b.subscribe(ctx)
	if err != nil {
		return err
	}
	defer hangUp(ctx, conn)
	hearing, stop := context.WithCancel(ctx)
	var g errgroup.Group
	g.Go(func() error { return hear(hearing, conn) })
	err = b.probe(ctx, b.notifyProbe)
	stop()
	_ = g.Wait()
	if errors.Is(err, errNotBack) && ctx.Err() == nil {
		err = errDeaf
	}
	return err
}

// prove sends a probe at every pulse, one at a time, until one does not come back. A probe that
// cannot be sent says nothing about the listening connection.
func (b *Bus) prove(ctx context.Context) error {
	ticker := time.NewTicker(pulse)
	defer ticker.Stop()
	for {
		// What was committed before the probe has been received when it is back.
		sent := time.Now()
		switch err := b.probe(ctx, b.notifyProbe); {
		case err == nil:
			b.heard.Store(int64(sent.Sub(b.begin)))
		case errors.Is(err, errNotBack):
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

// probe sends a notice of this node's own and waits, for patience at most, until it comes back.
func (b *Bus) probe(ctx context.Context, send func(ctx context.Context, payload string) error) error {
	id, back := uuid.New(), make(chan struct{})
	b.mu.Lock()
	b.probes[id] = back
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		delete(b.probes, id)
		b.mu.Unlock()
	}()
	if err := send(ctx, core.Notice{Kind: noticeProbe, IDs: []uuid.UUID{id}}.Payloads()[0]); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	select {
	case <-back:
		return nil
	case <-ctx.Done():
		return errNotBack
	}
}

func (b *Bus) notifyProbe(ctx context.Context, payload string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return b.cfg.Requests.Do(ctx, func(conn *storage.Tx) error {
		return storage.Queries.NotifyProbe(ctx, conn,
			db.NotifyProbeParams{Channel: core.NoticeChannel, Payload: payload})
	})
}
