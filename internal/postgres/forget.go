package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// forgetTime bounds what a stop spends on its last segment.
const forgetTime = 5 * time.Second

// Forget makes the write-ahead log leave the folder of a cluster that is older than this call: it
// ends the segment that is being written and then writes a checkpoint, after which the server
// removes what came before. The URL is the cluster's.
func Forget(ctx context.Context, url string) error {
	return command(ctx, url, endSegment, "CHECKPOINT")
}

const endSegment = "SELECT pg_switch_wal()"

// endSegment is the half of Forget before a shutdown, which writes a checkpoint anyway.
func (c *Cluster) endSegment(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, forgetTime)
	defer cancel()
	if err := command(ctx, c.URL(), endSegment); err != nil && ctx.Err() == nil {
		c.cfg.Logger.Debug("the last segment of the write-ahead log stays in the folder", "component", "postgres",
			"error", err)
	}
}

func command(ctx context.Context, url string, statements ...string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return fmt.Errorf("postgres: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	for _, statement := range statements {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return fmt.Errorf("postgres: %w", err)
		}
	}
	return nil
}
