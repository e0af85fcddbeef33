-- Across nodes: notices and the lock of the one node that sweeps.

-- name: Notify :exec
SELECT pg_notify(@channel::text, payload) FROM unnest(@payloads::text[]) AS payload;

-- name: TrySweepLock :one
SELECT pg_try_advisory_xact_lock(@key::bigint);

-- name: Ping :one
SELECT 1::integer;
