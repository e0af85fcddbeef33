-- Delivery tokens, as SHA-256. Whoever changes a user's holds the user's lock.

-- name: DeleteDeliveryTokens :exec
-- And those that have expired.
DELETE FROM delivery_tokens
WHERE user_id = @user_id AND (hash = ANY(@hashes::bytea[]) OR expires_at <= now());

-- name: InsertDeliveryTokens :exec
-- The beginning of 1970 stands for never.
INSERT INTO delivery_tokens (hash, user_id, expires_at)
SELECT a.hash, @user_id, nullif(a.expires_at, 'epoch'::timestamptz)
FROM (SELECT unnest(@hashes::bytea[]) AS hash, unnest(@expires_ats::timestamptz[]) AS expires_at) a
ON CONFLICT (hash, user_id) DO UPDATE SET expires_at = excluded.expires_at;

-- name: CountDeliveryTokens :one
SELECT count(*) FROM delivery_tokens WHERE user_id = @user_id;

-- name: DeliveryTokensOfUser :many
SELECT hash, created_at, expires_at FROM delivery_tokens
WHERE user_id = @user_id AND (expires_at IS NULL OR expires_at > now()) ORDER BY created_at, hash;

-- name: OpensUser :one
SELECT EXISTS (SELECT FROM delivery_tokens
               WHERE hash = @hash AND user_id = @user_id AND (expires_at IS NULL OR expires_at > now()));

-- name: OpenedUsers :many
-- Which of these users a token opens.
SELECT t.hash, t.user_id FROM delivery_tokens t
WHERE t.hash = ANY(@hashes::bytea[]) AND t.user_id = ANY(@user_ids::uuid[])
  AND (t.expires_at IS NULL OR t.expires_at > now());

-- name: OpenedDevices :many
-- Which of these tokens open these devices. For a device that does not exist as much is looked up as for
-- one that does.
SELECT p.hash::bytea AS hash, p.device_id::uuid AS device_id
FROM (SELECT unnest(@hashes::bytea[]) AS hash, unnest(@device_ids::uuid[]) AS device_id) p
LEFT JOIN LATERAL (SELECT d.user_id FROM devices d WHERE d.id = p.device_id LIMIT 1) d ON true
CROSS JOIN LATERAL (
    SELECT FROM delivery_tokens t
    WHERE t.hash = p.hash AND t.user_id = coalesce(d.user_id, '00000000-0000-0000-0000-000000000000'::uuid)
      AND (t.expires_at IS NULL OR t.expires_at > now())
    LIMIT 1
) t;

-- name: DeleteExpiredDeliveryTokens :execrows
DELETE FROM delivery_tokens WHERE (hash, user_id) IN (
    SELECT t.hash, t.user_id FROM delivery_tokens t WHERE t.expires_at <= now() LIMIT @max_rows::int FOR UPDATE SKIP LOCKED);
