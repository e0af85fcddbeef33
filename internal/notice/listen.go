package notice

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"

	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/storage"
)

func (b *Bus) listen(ctx context.Context) error {
	for {
		err := b.listenOnce(ctx)
		if ctx.Err() != nil {
			return nil
		}
		b.cfg.Logger.Warn("notices are not heard; tokens are checked against the database until they are, listening again",
			"component", "notices", "error", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(200*time.Millisecond + rand.N(300*time.Millisecond)):
		}
	}
}

// listenOnce listens on one connection until it breaks, or until a probe does not come back on it.
func (b *Bus) listenOnce(ctx context.Context) error {
	conn, err := b.subscribe(ctx)
	if err != nil {
		return err
	}
	defer hangUp(ctx, conn)
	b.listens.Do(func() { close(b.listening) })
	b.cfg.Resync()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return hear(ctx, conn) })
	g.Go(func() error { return b.prove(ctx) })
	return g.Wait()
}

// subscribe opens the listening connection.
func (b *Bus) subscribe(ctx context.Context) (*pgx.Conn, error) {
	cfg, err := storage.ListenConfig(b.cfg.URL, "obscura-notices")
	if err != nil {
		return nil, err
	}
	cfg.OnNotification = func(_ *pgconn.PgConn, n *pgconn.Notification) { b.receive(n.Payload) }
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, storage.Redact(err)
	}
	err = storage.Admit(ctx, conn)
	if err == nil {
		_, err = conn.Exec(ctx, "LISTEN "+core.NoticeChannel)
	}
	if err != nil {
		hangUp(ctx, conn)
		return nil, fmt.Errorf("cannot listen for notices: %w", storage.Redact(err))
	}
	return conn, nil
}

func hangUp(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	_ = conn.Close(ctx)
}

// hear receives until the connection breaks or ctx ends.
func hear(ctx context.Context, conn *pgx.Conn) error {
	for {
		if err := conn.PgConn().WaitForNotification(ctx); err != nil {
			return fmt.Errorf("the listening connection is lost: %w", storage.Redact(err))
		}
	}
}
