-- What the operator asks. Nothing here reads what an envelope says, or whose it is.

-- name: UserByNameOrID :one
SELECT id FROM users WHERE name_key = @key OR id = @id;

-- name: AllUsers :many
SELECT u.id, u.username, u.created_at, u.seen_on::text AS seen_on, u.disabled_at,
       (SELECT count(*) FROM devices d WHERE d.user_id = u.id) AS devices,
       (SELECT count(*) FROM sessions s WHERE s.user_id = u.id AND s.expires_at > now()) AS sessions
FROM users u WHERE sqlc.narg(only_id)::uuid IS NULL OR u.id = sqlc.narg(only_id) ORDER BY u.name_key;

-- name: SetDisabled :exec
UPDATE users SET disabled_at = CASE WHEN @disabled::boolean THEN coalesce(disabled_at, now()) END WHERE id = @id;

-- name: IdleUsers :many
-- Of all users, or of one: neither logged in nor refreshed for so many days, and without a session to come back with.
SELECT u.id, u.username, u.seen_on::text AS seen_on FROM users u
WHERE u.disabled_at IS NULL AND u.seen_on < (now() AT TIME ZONE 'UTC')::date - @days::int
  AND (sqlc.narg(only_id)::uuid IS NULL OR u.id = sqlc.narg(only_id))
  AND NOT EXISTS (SELECT FROM sessions s WHERE s.user_id = u.id AND s.expires_at > now())
ORDER BY u.name_key;

-- name: CountEnabledUsers :one
SELECT count(*) FROM users WHERE disabled_at IS NULL;

-- name: ResetPasswordHash :exec
UPDATE users SET password_hash = @password_hash WHERE id = @id;

-- name: InspectMailbox :one
SELECT m.pending, (m.next_seq - 1)::bigint AS accepted, m.acked_seq,
       (SELECT coalesce(sum(octet_length(b.body)), 0) FROM messages b
        WHERE b.bucket = @bucket AND b.device_id = m.device_id)::bigint AS pending_bytes,
       coalesce(o.accepted_at, to_timestamp(0))::timestamptz AS oldest
FROM mailboxes m
LEFT JOIN LATERAL (
    SELECT e.accepted_at FROM messages e
    WHERE e.bucket = @bucket AND e.device_id = m.device_id AND e.seq > m.floor_seq ORDER BY e.seq LIMIT 1
) o ON true
WHERE m.bucket = @bucket AND m.device_id = @device_id;

-- name: Stats :one
SELECT (SELECT count(*) FROM users) AS users,
       (SELECT count(u.disabled_at) FROM users u) AS disabled_users,
       (SELECT count(*) FROM devices) AS devices,
       (SELECT count(*) FROM sessions WHERE sessions.expires_at > now()) AS sessions,
       (SELECT count(*) FROM delivery_tokens t WHERE t.expires_at IS NULL OR t.expires_at > now()) AS delivery_tokens,
       (SELECT count(*) FROM invitations i WHERE i.expires_at IS NULL OR i.expires_at > now()) AS invitations,
       (SELECT count(*) FROM attachments a WHERE a.stored) AS attachments,
       (SELECT coalesce(sum(a.size), 0) FROM attachments a WHERE a.stored)::bigint AS attachment_bytes,
       (SELECT count(b.blob) FROM backups b) AS backups,
       (SELECT coalesce(sum(b.size), 0) FROM backups b)::bigint AS backup_bytes,
       (SELECT count(*) FROM blob_trash) AS blobs_in_trash,
       pg_database_size(current_database()) AS database_bytes;

-- name: BucketStats :one
SELECT (SELECT count(*) FROM push_tokens t WHERE t.bucket = @bucket) AS push_tokens,
       (SELECT coalesce(sum(m.pending), 0) FROM mailboxes m WHERE m.bucket = @bucket)::bigint AS pending_envelopes,
       (SELECT count(*) FROM mailboxes m WHERE m.bucket = @bucket AND m.pending > 0) AS mailboxes_with_mail;

-- name: ListTrash :many
SELECT key, due_at FROM blob_trash ORDER BY due_at, key;

-- name: HastenTrash :execrows
UPDATE blob_trash SET due_at = now();

-- name: UsersWithSessions :many
SELECT DISTINCT s.user_id FROM sessions s;

-- name: RelaysOnThisDatabase :one
-- Those whose sessions this role may see.
SELECT count(*) FROM pg_catalog.pg_stat_activity
WHERE datname = current_database() AND application_name = 'obscura-notices';

-- name: RecordSkippedNumbers :exec
INSERT INTO gaps (bucket, device_id, from_seq, to_seq, reason)
SELECT m.bucket, m.device_id, m.next_seq, m.next_seq - 1 + @numbers::bigint, @reason::smallint
FROM mailboxes m WHERE m.bucket = @bucket;

-- name: SkipNumbers :execrows
UPDATE mailboxes m SET next_seq = m.next_seq + @numbers::bigint WHERE m.bucket = @bucket;

-- name: SkipDevicesVersions :execrows
UPDATE users SET devices_version = devices_version + @versions::bigint;

-- name: DropAllECPreKeys :exec
DELETE FROM ec_pre_keys k WHERE k.bucket = @bucket;

-- name: DropAllKyberPreKeys :exec
DELETE FROM kyber_pre_keys k WHERE k.bucket = @bucket;

-- name: EmptyAllStocks :exec
UPDATE pre_key_stocks k SET ec_count = 0, kyber_count = 0 WHERE k.bucket = @bucket;
