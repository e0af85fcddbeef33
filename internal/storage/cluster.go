package storage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/pressly/goose/v3/lock"
)

// The statements of this file ask for tables and functions that only Citus has. So sqlc, which
// checks those of queries/ on plain PostgreSQL, cannot have them.

// errMigrates says that the lock which every start of a relay takes is not free.
var errMigrates = errors.New("a relay starts, or another command changes the schema: wait until it has ended")

// clusterApplication is what sessions of the commands are called. They are no relays.
const clusterApplication = "obscura-cluster"

// clusterConn is a connection of its own, outside of the pools, whose sessions plan otherwise. The
// server ends it, and gives back its locks, within a minute or two after the machine of the command
// has vanished.
func (d *DB) clusterConn(ctx context.Context, fn func(*pgx.Conn) error) error {
	cfg := d.pool.Config().ConnConfig
	pin(cfg, clusterApplication, map[string]string{"statement_timeout": "0", "search_path": d.path,
		"idle_in_transaction_session_timeout": "0", "tcp_keepalives_idle": "30", "tcp_keepalives_interval": "10",
		"tcp_keepalives_count": "3", "client_connection_check_interval": "10s"})
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return classify(ctx, err)
	}
	return errors.Join(fn(conn), conn.Close(context.WithoutCancel(ctx)))
}

// Patience is how long sessions of relays are waited for that seem to be there: one that has just
// ended is seen a little longer. So are those of this process.
const Patience = 10 * time.Second

// lockPatience is how long the lock is tried for. One that has just ended keeps it for a moment.
const lockPatience = 2 * time.Second

// readWithin bounds a look at all of a cluster, without the time for which relays are waited for.
const readWithin = 30 * time.Second

// ReadCluster looks at the database as one of several servers. It changes nothing. While there are
// relays it waits for them, at most so long. What is on workers is not looked at while one of them
// is unavailable: see Cluster.
func (d *DB) ReadCluster(ctx context.Context, patience time.Duration) (c *Cluster, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience+readWithin)
	defer cancel()
	d.pool.Reset() // what is counted are others
	err = d.clusterConn(ctx, func(conn *pgx.Conn) error {
		c, err = d.readCluster(ctx, conn, patience)
		return Redact(err)
	})
	return c, err
}

// Distribute does what Steps says, and returns what it has done. It looks again after each step.
// It holds the lock without which no session of a pool begins, and the one under which the schema
// is changed. So a relay that starts meanwhile waits, and one that runs and was cut off from the
// database cannot come back: see admit. Who is there in spite of that, as a relay of an earlier
// version is, ends the distribution before the next step.
func (d *DB) Distribute(ctx context.Context, buckets int, trial bool) (did []ClusterStep, err error) {
	d.pool.Reset()
	err = d.clusterConn(ctx, func(conn *pgx.Conn) error {
		defer unlock(ctx, conn)
		err := take(ctx, conn, LockDistribution, errDistributes)
		if err == nil {
			err = take(ctx, conn, lock.DefaultLockID, errMigrates)
		}
		for err == nil {
			var c *Cluster
			if c, err = d.readCluster(ctx, conn, Patience); err != nil {
				break
			}
			if err = c.MayBegin(buckets, trial); err != nil {
				break
			}
			steps := c.Steps(buckets)
			if len(steps) == 0 {
				return nil
			}
			step := steps[0]
			if len(did) > 0 && slices.Equal(did[len(did)-1].sql, step.sql) {
				return fmt.Errorf("to %s was done and is still to be done", step.Does)
			}
			if err := step.run(ctx, conn); err != nil {
				return fmt.Errorf("could not %s: %w; what was done before stays, and the command can be repeated", step.Does, err)
			}
			did = append(did, step)
		}
		if len(did) == 0 {
			return fmt.Errorf("%w; nothing was changed", Redact(err))
		}
		return fmt.Errorf("%w; what was done stays, and the command can be repeated", Redact(err))
	})
	return did, err
}

// CheckWhole refuses a database on which a distribution has ended between two tables: nobody may
// serve or change it. It may lack the tables. Plain PostgreSQL is asked one question.
func (d *DB) CheckWhole(ctx context.Context) error {
	var citus bool
	err := d.pool.QueryRow(ctx, "SELECT to_regclass('pg_catalog.pg_dist_partition') IS NOT NULL").Scan(&citus)
	if err != nil || !citus {
		return Redact(err)
	}
	var n int
	err = d.pool.QueryRow(ctx, `SELECT count(*) FROM pg_catalog.pg_dist_partition
		WHERE logicalrelid = ANY (SELECT to_regclass(t.name) FROM unnest($1::text[]) AS t (name))`, tablesOfDevices()).Scan(&n)
	if err == nil && n > 0 && n < TablesOfDevices {
		err = fmt.Errorf("%d of %d tables of devices are distributed: repeat obscura cluster distribute until it says "+
			"that all is done", n, TablesOfDevices)
	}
	return Redact(err)
}

// take tries for a lock, which the session then has.
func take(ctx context.Context, conn *pgx.Conn, key int64, taken error) error {
	free, err := until(ctx, lockPatience, func() (bool, error) {
		return one[bool](ctx, conn, "SELECT pg_try_advisory_lock($1)", key)
	})
	if err == nil && !free {
		err = taken
	}
	return err
}

// unlock gives all locks back. The end of a connection would do it too, but later: nobody waits
// until the server has seen it.
func unlock(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lockPatience)
	defer cancel()
	_, _ = conn.Exec(ctx, "SELECT pg_advisory_unlock_all()")
}

// until asks until the answer is yes, at most so long; it asks once at least.
func until(ctx context.Context, patience time.Duration, ask func() (bool, error)) (yes bool, err error) {
	for end := time.Now().Add(patience); ; {
		if yes, err = ask(); err != nil || yes || time.Now().After(end) {
			return yes, err
		}
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (s ClusterStep) run(ctx context.Context, conn *pgx.Conn) error {
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		for _, sql := range s.sql {
			if _, err := tx.Exec(ctx, sql); err != nil {
				return err
			}
		}
		return nil
	})
	var pg *pgconn.PgError
	if errors.As(err, &pg) && !strings.HasPrefix(pg.Code, "22") && !strings.HasPrefix(pg.Code, "23") {
		return fmt.Errorf("%w: %s", Redact(err), pg.Message) // the other classes are about tables and servers, not about rows
	}
	return Redact(err)
}

// one is the only value that a statement returns.
func one[T any](ctx context.Context, conn *pgx.Conn, sql string, args ...any) (value T, err error) {
	err = conn.QueryRow(ctx, sql, args...).Scan(&value)
	return value, err
}

// all are the rows that a statement returns.
func all[T any](ctx context.Context, conn *pgx.Conn, to pgx.RowToFunc[T], sql string, args ...any) ([]T, error) {
	rows, err := conn.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, to)
}

func (d *DB) readCluster(ctx context.Context, conn *pgx.Conn, patience time.Duration) (*Cluster, error) {
	c := &Cluster{Tables: map[string]Distributed{}}
	version, err := all(ctx, conn, pgx.RowTo[string], "SELECT extversion FROM pg_catalog.pg_extension WHERE extname = 'citus'")
	if err != nil || len(version) == 0 {
		return c, err
	}
	c.Citus = version[0]
	if c.Schema, err = one[int64](ctx, conn, "SELECT max(version_id) FROM goose_db_version WHERE is_applied"); err != nil {
		return c, err
	}
	tables := tablesOfDevices()
	if err = c.readCoordinator(ctx, conn, tables); err != nil {
		return c, err
	}
	shards, err := c.readShards(ctx, conn)
	if err != nil {
		return c, err
	}
	c.Asked = d.askWorkers(ctx, c.Workers, shards)
	if err = c.readBuckets(ctx, conn); err != nil {
		return c, err
	}
	if c.Relays, err = relays(ctx, conn, patience); err != nil {
		return c, err
	}
	if c.ForeignKeys, err = all(ctx, conn, pgx.RowToStructByPos[ForeignKey], `SELECT t.name, k.conname
		FROM unnest($1::text[]) AS t (name) JOIN pg_catalog.pg_constraint k ON k.conrelid = t.name::regclass AND k.contype = 'f'
		ORDER BY t.name, k.conname`, tables); err != nil {
		return c, err
	}
	if c.OldKeys, err = all(ctx, conn, pgx.RowTo[string], `SELECT t.name FROM unnest($1::text[]) AS t (name)
		WHERE NOT EXISTS (SELECT 1 FROM pg_catalog.pg_constraint k
			JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attname = 'bucket' AND a.attnum = ANY (k.conkey)
			WHERE k.conrelid = t.name::regclass AND k.contype = 'p')`, tables); err != nil {
		return c, err
	}
	if len(c.Tables) == 0 && len(c.ForeignKeys) == 0 && len(c.OldKeys) == 0 && c.Buckets > 0 {
		c.Misplaced, err = one[bool](ctx, conn, anyMisplaced(c.Buckets))
	}
	return c, err
}

// readCoordinator asks what only the coordinator of a cluster knows, and knows by itself.
func (c *Cluster) readCoordinator(ctx context.Context, conn *pgx.Conn, tables []string) (err error) {
	if c.Pooled, err = pooled(ctx, conn); err != nil {
		return err
	}
	if c.Coordinator, err = one[bool](ctx, conn, "SELECT groupid = 0 FROM pg_catalog.pg_dist_local_group"); err != nil {
		return err
	}
	if c.Replication, err = one[string](ctx, conn, "SELECT coalesce(current_setting('citus.shard_replication_factor', true), '')"); err != nil {
		return err
	}
	if c.Workers, err = all(ctx, conn, pgx.RowToStructByPos[Worker], `SELECT groupid, nodename, nodeport FROM pg_catalog.pg_dist_node
		WHERE noderole = 'primary' AND nodecluster = 'default' AND isactive AND shouldhaveshards ORDER BY groupid`); err != nil {
		return err
	}
	type table struct {
		Name string
		Distributed
	}
	distributed, err := all(ctx, conn, pgx.RowToStructByPos[table], `SELECT t.name, p.colocationid::int,
			p.partmethod = 'h' AND column_to_column_name(p.logicalrelid, p.partkey) = 'bucket'
		FROM unnest($1::text[]) AS t (name) JOIN pg_catalog.pg_dist_partition p ON p.logicalrelid = t.name::regclass`, tables)
	if err != nil || len(distributed) == 0 {
		return err
	}
	for _, t := range distributed {
		c.Tables[t.Name] = t.Distributed
	}
	c.Copies, err = all(ctx, conn, pgx.RowTo[string], `SELECT t.name FROM unnest($1::text[]) AS t (name)
		JOIN pg_catalog.pg_dist_partition p ON p.logicalrelid = t.name::regclass
		WHERE (SELECT sum(pg_relation_size(part.relid)) FROM pg_partition_tree(t.name::regclass) part) > 0
			OR pg_relation_size(t.name::regclass) > 0`, tables)
	return err
}

// readShards are the names of the tables that the groups of workers have.
func (c *Cluster) readShards(ctx context.Context, conn *pgx.Conn) (shards map[int][]string, err error) {
	if _, is := c.Tables["buckets"]; !is {
		return nil, nil
	}
	shards = map[int][]string{}
	rows, err := conn.Query(ctx, `SELECT s.groupid, shard_name(t.logicalrelid, t.shardid)
		FROM pg_catalog.pg_dist_partition p JOIN pg_catalog.pg_dist_shard t ON t.logicalrelid = p.logicalrelid
		JOIN pg_catalog.pg_dist_placement s ON s.shardid = t.shardid
		WHERE p.colocationid = (SELECT b.colocationid FROM pg_catalog.pg_dist_partition b WHERE b.logicalrelid = 'buckets'::regclass)`)
	if err != nil {
		return nil, err
	}
	var group int
	var shard string
	_, err = pgx.ForEachRow(rows, []any{&group, &shard}, func() error {
		shards[group] = append(shards[group], shard)
		return nil
	})
	return shards, err
}

// readBuckets learns how many buckets there are and where. Their rows, and those of receipts, may
// lie on workers: while one is unavailable the shards tell, of which each bucket got so many.
func (c *Cluster) readBuckets(ctx context.Context, conn *pgx.Conn) (err error) {
	_, spread := c.Tables["buckets"]
	if spread && c.Unavailable() != nil {
		c.Buckets, err = one[int](ctx, conn, "SELECT count(*) / $1 FROM pg_catalog.pg_dist_shard WHERE logicalrelid = 'buckets'::regclass",
			shardsABucket)
	} else {
		c.Buckets, err = one[int](ctx, conn, "SELECT count(*) FROM buckets")
		if err == nil {
			c.Claims, err = one[bool](ctx, conn, "SELECT count(*) > 0 FROM receipts WHERE claim")
		}
	}
	if err == nil && spread {
		c.Places, err = all(ctx, conn, rowToPlace, `WITH place AS MATERIALIZED (
				SELECT n::smallint AS bucket, get_shard_id_for_distribution_column('buckets', n::smallint) AS shard
				FROM generate_series(0, $1::int - 1) AS n)
			SELECT p.bucket, p.shard, n.groupid, n.nodename, n.nodeport FROM place p
			JOIN pg_catalog.pg_dist_placement s ON s.shardid = p.shard AND s.shardstate = 1
			JOIN pg_catalog.pg_dist_node n ON n.groupid = s.groupid AND n.noderole = 'primary' ORDER BY p.bucket`, c.Buckets)
	}
	return err
}

func rowToPlace(row pgx.CollectableRow) (p BucketPlace, err error) {
	err = row.Scan(&p.Bucket, &p.Shard, &p.Group, &p.Name, &p.Port)
	return p, err
}

// relays are the sessions of other processes of ours. They are waited for, at most so long.
func relays(ctx context.Context, conn *pgx.Conn, patience time.Duration) (n int, err error) {
	_, err = until(ctx, patience, func() (bool, error) {
		n, err = one[int](ctx, conn, `SELECT count(*) FROM pg_catalog.pg_stat_activity
			WHERE datname = current_database() AND application_name IN ('obscura', 'obscura-notices')`)
		return n == 0, err
	})
	return n, err
}
