-- Across nodes: notices and the lock of the one node that sweeps.

-- name: Notify :exec
SELECT pg_notify(@channel::text, payload) FROM unnest(@payloads::text[]) AS payload;

-- name: NotifyProbe :exec
-- Its commit need not reach the disk: a probe that is lost with the database proves nothing.
SELECT set_config('synchronous_commit', 'off', true), pg_notify(@channel::text, @payload::text);

-- name: TryLock :one
SELECT pg_try_advisory_xact_lock(@key::bigint);

-- name: AdmitSession :one
-- Whether a lock is free, for now, and the comment on the table of buckets. obscura cluster
-- distribute writes there into how many it divided, and somebody else may write there too. Counting
-- rows would ask all servers of a cluster.
SELECT pg_try_advisory_xact_lock_shared(@key::bigint) AS free,
    coalesce(obj_description(to_regclass('buckets')::oid, 'pg_class'), '')::text AS divided;

-- name: MayIdle :exec
-- For the transaction that holds a lock and does nothing else.
SELECT set_config('idle_in_transaction_session_timeout', '0', true);

-- name: Ping :one
SELECT 1::integer;

-- name: NoTimeout :exec
SELECT set_config('statement_timeout', '0', false);

-- name: VacuumMailboxes :exec
-- The queues: most of what autovacuum, which looks once a minute by default, comes too late for.
VACUUM (SKIP_LOCKED) messages, mailboxes, gaps, push_wakeups, blob_trash;

-- name: VacuumKeys :exec
VACUUM (SKIP_LOCKED) pre_key_stocks, ec_pre_keys, kyber_pre_keys;

-- name: CountBuckets :one
SELECT count(*) FROM buckets;

-- name: HasMigrations :one
-- Whether goose has ever been here. Its own question makes the table.
SELECT (to_regclass('goose_db_version') IS NOT NULL)::bool AS there;
