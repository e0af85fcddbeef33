-- One-time pre-keys that must not be stored a second time.

-- +goose Up

-- The keys of a device that are held, as of its last upload, and those that were handed out before.
-- A key that is in here and not among those that are held has been handed out. It is written by
-- uploads and not by hand-outs, which it would slow down. There is no reference to devices: the row
-- of zeros has what removed devices handed out.
CREATE TABLE known_pre_keys (
    user_id   uuid     NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    device_id uuid     NOT NULL,
    -- Oldest first: the first 8 bytes of SHA-256 over the key's id (4 bytes, big-endian) and the
    -- public key, as a number.
    ec        bigint[] NOT NULL,
    kyber     bigint[] NOT NULL,
    PRIMARY KEY (user_id, device_id)
);
-- Digests do not compress.
ALTER TABLE known_pre_keys ALTER COLUMN ec SET STORAGE EXTERNAL;
ALTER TABLE known_pre_keys ALTER COLUMN kyber SET STORAGE EXTERNAL;

-- What is held now may be handed out before its device uploads again. What the previous binary stores
-- from here on is known after its device's next upload.
INSERT INTO known_pre_keys (user_id, device_id, ec, kyber)
SELECT d.user_id, d.id,
       ARRAY(SELECT ('x' || encode(substr(sha256(int4send(k.key_id) || k.public_key), 1, 8), 'hex'))::bit(64)::bigint
             FROM ec_pre_keys k WHERE k.device_id = d.id ORDER BY k.key_id),
       ARRAY(SELECT ('x' || encode(substr(sha256(int4send(k.key_id) || k.public_key), 1, 8), 'hex'))::bit(64)::bigint
             FROM kyber_pre_keys k WHERE k.device_id = d.id ORDER BY k.key_id)
FROM devices d;

-- +goose Down
DROP TABLE known_pre_keys;
