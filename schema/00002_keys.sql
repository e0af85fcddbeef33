-- One-time pre-keys, handed out lowest id first, each exactly once.

-- +goose Up

-- One narrow row per device, locked by everyone who takes or adds one-time keys. Narrow, because
-- every hand-out rewrites it.
CREATE TABLE pre_key_stocks (
    device_id   uuid PRIMARY KEY REFERENCES devices (id) ON DELETE CASCADE,
    -- No key of the device has an id below these. Hand-out starts there and so never wades through
    -- the dead index entries that earlier hand-outs left behind.
    ec_floor    integer NOT NULL DEFAULT 0,
    kyber_floor integer NOT NULL DEFAULT 0,
    ec_count    integer NOT NULL DEFAULT 0,
    kyber_count integer NOT NULL DEFAULT 0,
    -- Counts the uploads. Keys remember theirs (older ones make room first), and a hand-out that
    -- waited for an upload can tell that its snapshot is older than the stock.
    uploads     bigint  NOT NULL DEFAULT 0
) WITH (fillfactor = 50, autovacuum_vacuum_cost_delay = 0);

CREATE TABLE ec_pre_keys (
    device_id  uuid    NOT NULL REFERENCES devices (id) ON DELETE CASCADE,
    key_id     integer NOT NULL,
    public_key bytea   NOT NULL,
    upload     bigint  NOT NULL,
    PRIMARY KEY (device_id, key_id)
) WITH (autovacuum_vacuum_cost_delay = 0);

CREATE TABLE kyber_pre_keys (
    device_id  uuid    NOT NULL REFERENCES devices (id) ON DELETE CASCADE,
    key_id     integer NOT NULL,
    public_key bytea   NOT NULL,
    signature  bytea   NOT NULL,
    upload     bigint  NOT NULL,
    PRIMARY KEY (device_id, key_id)
) WITH (autovacuum_vacuum_cost_delay = 0);
ALTER TABLE kyber_pre_keys ALTER COLUMN public_key SET STORAGE PLAIN;

-- +goose Down
DROP TABLE kyber_pre_keys;
DROP TABLE ec_pre_keys;
DROP TABLE pre_key_stocks;
