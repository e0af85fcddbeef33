package storage

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// askWithin bounds the question to one worker; all are asked at once.
const askWithin = 5 * time.Second

// WorkerAnswer is what a worker says that is asked itself, and not through the coordinator.
type WorkerAnswer struct {
	// Unavailable is why there is no answer.
	Unavailable error
	// Citus is the version of its extension, empty without one.
	Citus string
	// Bytes is what the tables of devices take there.
	Bytes int64
	// Pooled reports a pooler before it.
	Pooled bool
}

// askWorkers asks all workers, by the names that Citus has for them and as the same user. Shards
// are the names of the tables that each has, by its group.
func (d *DB) askWorkers(ctx context.Context, workers []Worker, shards map[int][]string) map[int]WorkerAnswer {
	answers := make([]WorkerAnswer, len(workers))
	var asking sync.WaitGroup
	for i, w := range workers {
		asking.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, askWithin)
			defer cancel()
			answers[i] = d.askWorker(ctx, w, shards[w.Group])
		})
	}
	asking.Wait()
	all := map[int]WorkerAnswer{}
	for i, w := range workers {
		all[w.Group] = answers[i]
	}
	return all
}

func (d *DB) askWorker(ctx context.Context, w Worker, shards []string) (a WorkerAnswer) {
	cfg := d.pool.Config().ConnConfig
	pin(cfg, clusterApplication, map[string]string{"search_path": d.path})
	towards(&cfg.Config, w)
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err == nil {
		defer func() { _ = conn.Close(ctx) }()
		a.Pooled, err = pooled(ctx, conn)
	}
	if err == nil {
		err = conn.QueryRow(ctx, `SELECT coalesce((SELECT extversion FROM pg_catalog.pg_extension WHERE extname = 'citus'), ''),
				(SELECT coalesce(sum(pg_total_relation_size(to_regclass(name))), 0)::bigint FROM unnest($1::text[]) AS name)`,
			shards).Scan(&a.Citus, &a.Bytes)
	}
	switch {
	case err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded):
		a.Unavailable = fmt.Errorf("no answer within %s", askWithin)
	case err != nil:
		a.Unavailable = Redact(err)
	}
	return a
}

// towards has a configuration lead to a worker, with or without TLS as it led to the coordinator.
func towards(cfg *pgconn.Config, w Worker) {
	plain := mayBePlain(cfg)
	cfg.Host, cfg.Port, cfg.Fallbacks = w.Name, uint16(w.Port), nil //nolint:gosec // Citus has a port there
	if cfg.TLSConfig == nil {
		return
	}
	if cfg.TLSConfig.ServerName != "" {
		encrypted := cfg.TLSConfig.Clone()
		encrypted.ServerName = w.Name
		cfg.TLSConfig = encrypted
	}
	if plain {
		cfg.Fallbacks = []*pgconn.FallbackConfig{{Host: cfg.Host, Port: cfg.Port, TLSConfig: (*tls.Config)(nil)}}
	}
}

// pooled reports whether a connection leads to a pooler: such a program gives it a number of its
// own, and the server has another one for the session.
func pooled(ctx context.Context, conn *pgx.Conn) (bool, error) {
	pid, err := one[uint32](ctx, conn, "SELECT pg_backend_pid()")
	return err == nil && pid != conn.PgConn().PID(), err
}
