-- Devices and their numbers.

-- name: CountDevices :one
SELECT count(*) FROM devices WHERE user_id = @user_id;

-- name: NextDeviceNumber :one
-- A number never used before if there is one, else the one that has rested longest, if long enough.
SELECT n::smallint AS number
FROM generate_series(1, 127) AS n
LEFT JOIN retired_device_numbers r ON r.user_id = @user_id AND r.number = n
WHERE NOT EXISTS (SELECT FROM devices d WHERE d.user_id = @user_id AND d.number = n)
  AND (r.retired_at IS NULL OR r.retired_at < now() - @rest::interval)
ORDER BY r.retired_at NULLS FIRST, n
LIMIT 1;

-- name: RetireDeviceNumber :exec
INSERT INTO retired_device_numbers (user_id, number)
SELECT d.user_id, d.number FROM devices d WHERE d.id = @device_id
ON CONFLICT (user_id, number) DO UPDATE SET retired_at = now();

-- name: InsertDevice :one
INSERT INTO devices (id, user_id, number, name, registration_id, identity_key,
                     signed_pre_key_id, signed_pre_key, signed_pre_key_sig,
                     last_resort_id, last_resort_key, last_resort_sig)
VALUES (@id, @user_id, @number, @name, @registration_id, @identity_key,
        @signed_pre_key_id, @signed_pre_key, @signed_pre_key_sig,
        @last_resort_id, @last_resort_key, @last_resort_sig)
RETURNING created_at;

-- name: DevicesOfUser :many
-- In the order of ids, in which sends and hand-outs too lock several devices of a bucket.
SELECT id, number, name, created_at FROM devices WHERE user_id = @user_id ORDER BY id;

-- name: CountDevicesChange :one
UPDATE users SET devices_version = devices_version + 1 WHERE id = @user_id RETURNING devices_version;

-- name: OwnersOf :many
SELECT id, user_id FROM devices WHERE id = ANY(@device_ids::uuid[]);

-- name: DevicesVersions :many
-- Of those of the users that have a device.
SELECT u.id, u.devices_version FROM users u
WHERE u.id = ANY(@user_ids::uuid[]) AND EXISTS (SELECT FROM devices d WHERE d.user_id = u.id);

-- name: PublicDevices :many
-- What others may know of these users' devices. The versions and the devices are of one moment.
SELECT d.user_id, u.devices_version, d.id, d.number, d.registration_id, d.identity_key
FROM devices d JOIN users u ON u.id = d.user_id WHERE d.user_id = ANY(@user_ids::uuid[])
ORDER BY d.user_id, d.number;

-- name: DeviceOfUser :one
SELECT id, number, name, created_at FROM devices WHERE id = @id AND user_id = @user_id;

-- name: RenameDevice :one
UPDATE devices SET name = @name WHERE id = @id AND user_id = @user_id
RETURNING id, number, name, created_at;

-- name: DeleteDevice :execrows
DELETE FROM devices WHERE id = @id AND user_id = @user_id;

-- name: RestingDeviceNumbers :many
-- A number that was given out again rests no longer, though its row stays until the next rest.
SELECT r.number FROM retired_device_numbers r
WHERE r.user_id = @user_id
  AND NOT EXISTS (SELECT FROM devices d WHERE d.user_id = r.user_id AND d.number = r.number)
ORDER BY r.number;

-- name: MarkSenders :exec
-- Locks in the order of devices, as hand-outs do, and only those that are not marked yet.
WITH new AS MATERIALIZED (
    SELECT k.device_id FROM pre_key_stocks k
    WHERE k.bucket = @bucket AND k.device_id = ANY(@device_ids::uuid[]) AND NOT k.remembered
    ORDER BY k.device_id FOR NO KEY UPDATE
)
UPDATE pre_key_stocks s SET remembered = true FROM new WHERE s.bucket = @bucket AND s.device_id = new.device_id;
