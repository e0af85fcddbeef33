-- What `obscura admin doctor` asks. Nothing that serves a request is here.

-- name: ServerSettings :many
-- What sessions begin with, before they set anything themselves.
SELECT name::text AS name, COALESCE(reset_val, '')::text AS value
FROM pg_catalog.pg_settings
WHERE name = ANY (@names::text[]);

-- name: InspectServer :one
SELECT
    clock_timestamp()::timestamptz AS clock,
    current_setting('server_version')::text AS version,
    current_setting('server_version_num')::int AS version_num,
    pg_encoding_to_char(d.encoding)::text AS encoding,
    COALESCE(d.datcollversion <> pg_database_collation_actual_version(d.oid), false)::bool AS collation_changed,
    pg_is_in_recovery()::bool AS standby,
    pg_database_size(d.oid)::bigint AS bytes,
    age(d.datfrozenxid)::bigint AS transactions,
    (SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE backend_type = 'client backend')::int AS connections,
    -- Zero also when this role may not see the sessions of others.
    COALESCE((SELECT extract(epoch FROM max(clock_timestamp() - xact_start)) FROM pg_catalog.pg_stat_activity
        WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()), 0)::bigint AS oldest_transaction_seconds
FROM pg_catalog.pg_database d
WHERE d.datname = current_database();
