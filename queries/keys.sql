-- Published keys: what a device uploads and what a pre-key bundle hands out.

-- name: InsertPreKeyStock :exec
INSERT INTO pre_key_stocks (bucket, device_id, remembered) VALUES (@bucket, @device_id, false);

-- name: LockPreKeyStock :one
-- Serialises uploads and hand-outs of one device. Returns the number of the upload that begins, and whether somebody
-- may remember the device: a bundle of it was handed out, or it has sent mail.
UPDATE pre_key_stocks s SET uploads = s.uploads + 1 WHERE s.bucket = @bucket AND s.device_id = @device_id
RETURNING s.uploads, s.remembered;

-- name: LockPreKeyStocks :exec
-- In the order in which hand-outs lock them.
SELECT s.device_id FROM pre_key_stocks s WHERE s.bucket = @bucket AND s.device_id = ANY(@device_ids::uuid[])
ORDER BY s.device_id FOR UPDATE;

-- name: DeviceKeys :one
SELECT registration_id, identity_key, signed_pre_key_id, signed_pre_key, signed_pre_key_sig,
       last_resort_id, last_resort_key, last_resort_sig
FROM devices WHERE id = @id;

-- name: SharePreKeyStock :one
-- Waits for uploads and hand-outs of the device and keeps others off: what the next statements read
-- belongs together. A join in this statement would not: it would see the other table as of its start.
SELECT s.device_id FROM pre_key_stocks s WHERE s.bucket = @bucket AND s.device_id = @device_id FOR SHARE;

-- name: ClearLastResort :exec
UPDATE devices SET last_resort_id = NULL, last_resort_key = NULL, last_resort_sig = NULL WHERE id = @id;

-- name: SetIdentity :exec
UPDATE devices SET identity_key = @identity_key, registration_id = @registration_id WHERE id = @id;

-- name: SetSignedPreKey :exec
UPDATE devices SET signed_pre_key_id = @key_id, signed_pre_key = @public_key, signed_pre_key_sig = @signature
WHERE id = @id;

-- name: SetLastResort :exec
UPDATE devices SET last_resort_id = @key_id, last_resort_key = @public_key, last_resort_sig = @signature
WHERE id = @id;

-- name: ECPreKeys :many
-- As every scan of one-time keys it starts at the floor, not among the dead index entries below it.
SELECT k.key_id, k.public_key FROM ec_pre_keys k
WHERE k.bucket = @bucket AND k.device_id = @device_id
  AND k.key_id >= (SELECT s.ec_floor FROM pre_key_stocks s WHERE s.bucket = @bucket AND s.device_id = @device_id)
ORDER BY k.key_id;

-- name: KyberPreKeys :many
SELECT k.key_id, k.public_key FROM kyber_pre_keys k
WHERE k.bucket = @bucket AND k.device_id = @device_id
  AND k.key_id >= (SELECT s.kyber_floor FROM pre_key_stocks s WHERE s.bucket = @bucket AND s.device_id = @device_id)
ORDER BY k.key_id;

-- name: LowerECFloor :exec
-- Before keys are inserted: none may be below the floor.
UPDATE pre_key_stocks s SET ec_floor = least(s.ec_floor, @lowest::integer) WHERE s.bucket = @bucket AND s.device_id = @device_id;

-- name: LowerKyberFloor :exec
UPDATE pre_key_stocks s SET kyber_floor = least(s.kyber_floor, @lowest::integer) WHERE s.bucket = @bucket AND s.device_id = @device_id;

-- name: InsertECPreKeys :exec
INSERT INTO ec_pre_keys (bucket, device_id, key_id, public_key, upload)
SELECT s.bucket, s.device_id, unnest(@key_ids::integer[]), unnest(@public_keys::bytea[]), @upload::bigint
FROM pre_key_stocks s WHERE s.bucket = @bucket AND s.device_id = @device_id;

-- name: InsertKyberPreKeys :exec
INSERT INTO kyber_pre_keys (bucket, device_id, key_id, public_key, signature, upload)
SELECT s.bucket, s.device_id, unnest(@key_ids::integer[]), unnest(@public_keys::bytea[]), unnest(@signatures::bytea[]),
       @upload::bigint
FROM pre_key_stocks s WHERE s.bucket = @bucket AND s.device_id = @device_id;

-- name: TrimECPreKeys :many
-- Keeps the newest uploads; within one upload the highest ids. Returns the ids of what goes.
DELETE FROM ec_pre_keys k WHERE k.bucket = @bucket AND k.device_id = @device_id AND k.key_id IN (
    SELECT o.key_id FROM ec_pre_keys o WHERE o.bucket = @bucket AND o.device_id = @device_id
      AND o.key_id >= (SELECT s.ec_floor FROM pre_key_stocks s WHERE s.bucket = @bucket AND s.device_id = @device_id)
    ORDER BY o.upload DESC, o.key_id DESC OFFSET @keep::int)
RETURNING k.key_id;

-- name: TrimKyberPreKeys :many
DELETE FROM kyber_pre_keys k WHERE k.bucket = @bucket AND k.device_id = @device_id AND k.key_id IN (
    SELECT o.key_id FROM kyber_pre_keys o WHERE o.bucket = @bucket AND o.device_id = @device_id
      AND o.key_id >= (SELECT s.kyber_floor FROM pre_key_stocks s WHERE s.bucket = @bucket AND s.device_id = @device_id)
    ORDER BY o.upload DESC, o.key_id DESC OFFSET @keep::int)
RETURNING k.key_id;

-- name: DeleteECPreKeys :exec
DELETE FROM ec_pre_keys k WHERE k.bucket = @bucket AND k.device_id = @device_id;

-- name: DeleteKyberPreKeys :exec
DELETE FROM kyber_pre_keys k WHERE k.bucket = @bucket AND k.device_id = @device_id;

-- name: KnownPreKeys :many
-- What a user's devices, and those that were removed (a device of zeros), hold or have handed out.
SELECT device_id, ec, kyber FROM known_pre_keys WHERE user_id = @user_id;

-- name: SetKnownPreKeys :exec
INSERT INTO known_pre_keys (user_id, device_id, ec, kyber) VALUES (@user_id, @device_id, coalesce(@ec::bigint[], '{}'), coalesce(@kyber::bigint[], '{}'))
ON CONFLICT (user_id, device_id) DO UPDATE SET ec = excluded.ec, kyber = excluded.kyber;

-- name: DeleteKnownPreKeys :exec
DELETE FROM known_pre_keys WHERE user_id = @user_id AND device_id = @device_id;

-- name: RecountPreKeys :one
-- After an upload: counts and floors from the tables themselves.
UPDATE pre_key_stocks s SET
    ec_count    = (SELECT count(*) FROM ec_pre_keys e
                   WHERE e.bucket = @bucket AND e.device_id = s.device_id AND e.key_id >= s.ec_floor),
    ec_floor    = (SELECT coalesce(min(e.key_id), s.ec_floor) FROM ec_pre_keys e
                   WHERE e.bucket = @bucket AND e.device_id = s.device_id AND e.key_id >= s.ec_floor),
    kyber_count = (SELECT count(*) FROM kyber_pre_keys k
                   WHERE k.bucket = @bucket AND k.device_id = s.device_id AND k.key_id >= s.kyber_floor),
    kyber_floor = (SELECT coalesce(min(k.key_id), s.kyber_floor) FROM kyber_pre_keys k
                   WHERE k.bucket = @bucket AND k.device_id = s.device_id AND k.key_id >= s.kyber_floor)
WHERE s.bucket = @bucket AND s.device_id = @device_id
RETURNING s.ec_count, s.kyber_count;

-- name: PreKeyCounts :many
SELECT s.device_id, s.ec_count, s.kyber_count FROM pre_key_stocks s
WHERE s.bucket = @bucket AND s.device_id = ANY(@device_ids::uuid[]);

-- name: TakeBundles :many
-- Hands out one-time keys to many callers at once: counts[i] of each kind for device_ids[i] of
-- user_ids[i], or for every device of it where that is zero; lowest id first. No device may be meant
-- twice.
--
-- The stocks are locked in the order of the devices, so hand-outs of one device follow each other
-- and two batches cannot deadlock. A hand-out that had to wait sees the newest stock row but keys as
-- of its start: keys taken meanwhile are skipped by the row locks (FOR UPDATE goes on to the next
-- one), keys uploaded meanwhile are not seen; then the floor, which would hide them, stays.
--
-- What was locked is deleted by its place in the table (keys are never updated, so it does not move):
-- the planner cannot know how few rows a LIMIT leaves and would join them with the whole table. The
-- place is written (e).ctid because sqlc knows no system columns.
WITH want AS (
    SELECT unnest(@user_ids::uuid[]) AS user_id, unnest(@device_ids::uuid[]) AS device_id, unnest(@counts::int[]) AS n
), stock AS MATERIALIZED (
    SELECT s.device_id, w.n, s.ec_floor, s.kyber_floor, s.uploads = seen.uploads AS fresh
    FROM want w
    JOIN devices d ON d.user_id = w.user_id
         AND (w.device_id = '00000000-0000-0000-0000-000000000000' OR d.id = w.device_id)
    JOIN pre_key_stocks seen ON seen.bucket = @bucket AND seen.device_id = d.id
    JOIN pre_key_stocks s ON s.bucket = @bucket AND s.device_id = d.id
    ORDER BY s.device_id
    FOR NO KEY UPDATE OF s
), ec AS MATERIALIZED (
    SELECT stock.device_id, k.place, k.key_id, k.public_key
    FROM stock CROSS JOIN LATERAL (
        SELECT (e).ctid AS place, e.key_id, e.public_key FROM ec_pre_keys e
        WHERE e.bucket = @bucket AND e.device_id = stock.device_id AND e.key_id >= stock.ec_floor
        ORDER BY e.key_id LIMIT stock.n FOR UPDATE) k
), ec_gone AS (
    DELETE FROM ec_pre_keys e WHERE e.bucket = @bucket AND (e).ctid = ANY (ARRAY(SELECT ec.place FROM ec))
), kyber AS MATERIALIZED (
    SELECT stock.device_id, k.place, k.key_id, k.public_key, k.signature
    FROM stock CROSS JOIN LATERAL (
        SELECT (e).ctid AS place, e.key_id, e.public_key, e.signature FROM kyber_pre_keys e
        WHERE e.bucket = @bucket AND e.device_id = stock.device_id AND e.key_id >= stock.kyber_floor
        ORDER BY e.key_id LIMIT stock.n FOR UPDATE) k
), kyber_gone AS (
    DELETE FROM kyber_pre_keys e WHERE e.bucket = @bucket AND (e).ctid = ANY (ARRAY(SELECT kyber.place FROM kyber))
), ec_lists AS (
    SELECT device_id, array_agg(key_id ORDER BY key_id) AS ids, array_agg(public_key ORDER BY key_id) AS keys
    FROM ec GROUP BY device_id
), kyber_lists AS (
    SELECT device_id, array_agg(key_id ORDER BY key_id) AS ids, array_agg(public_key ORDER BY key_id) AS keys,
           array_agg(signature ORDER BY key_id) AS sigs
    FROM kyber GROUP BY device_id
), taken AS (
    UPDATE pre_key_stocks s SET
        remembered  = true,
        ec_count    = s.ec_count - coalesce(cardinality(e.ids), 0),
        kyber_count = s.kyber_count - coalesce(cardinality(k.ids), 0),
        ec_floor    = CASE WHEN stock.fresh AND e.ids IS NOT NULL
                           THEN least(e.ids[cardinality(e.ids)], 2147483646) + 1 ELSE s.ec_floor END,
        kyber_floor = CASE WHEN stock.fresh AND k.ids IS NOT NULL
                           THEN least(k.ids[cardinality(k.ids)], 2147483646) + 1 ELSE s.kyber_floor END
    FROM stock
    LEFT JOIN ec_lists e ON e.device_id = stock.device_id
    LEFT JOIN kyber_lists k ON k.device_id = stock.device_id
    WHERE s.bucket = @bucket AND s.device_id = stock.device_id AND (e.ids IS NOT NULL OR k.ids IS NOT NULL OR NOT s.remembered)
    RETURNING s.device_id, s.ec_count, s.kyber_count
)
SELECT d.user_id, u.devices_version, d.id, d.number, d.registration_id, d.identity_key,
       d.signed_pre_key_id, d.signed_pre_key, d.signed_pre_key_sig,
       d.last_resort_id, d.last_resort_key, d.last_resort_sig,
       coalesce(e.ids, '{}')::integer[] AS ec_ids, coalesce(e.keys, '{}')::bytea[] AS ec_keys,
       coalesce(k.ids, '{}')::integer[] AS kyber_ids, coalesce(k.keys, '{}')::bytea[] AS kyber_keys,
       coalesce(k.sigs, '{}')::bytea[] AS kyber_sigs,
       coalesce(t.ec_count, -1)::integer AS ec_left, coalesce(t.kyber_count, -1)::integer AS kyber_left
FROM stock
JOIN devices d ON d.id = stock.device_id
JOIN users u ON u.id = d.user_id
LEFT JOIN ec_lists e ON e.device_id = d.id
LEFT JOIN kyber_lists k ON k.device_id = d.id
LEFT JOIN taken t ON t.device_id = d.id
ORDER BY d.user_id, d.number;
