-- +goose NO TRANSACTION
-- Everything that is kept for a device can lie on one of several servers: it has a bucket.

-- +goose Up

-- One row for each bucket, from 0 on: their number is how many buckets there are.
CREATE TABLE IF NOT EXISTS buckets (bucket smallint PRIMARY KEY);
INSERT INTO buckets VALUES (0) ON CONFLICT DO NOTHING;

-- Of a device: the first two bytes of its id, big endian, modulo the number of buckets. So all is in bucket 0 here, also
-- what the previous binary stores. It is in no key: a plan made while a table is empty would walk along it.
--
-- Nothing is rewritten, and each table is locked for a moment only, one after the other: whoever uses two of them waits
-- for this and is not waited for.
ALTER TABLE mailboxes ADD COLUMN IF NOT EXISTS bucket smallint NOT NULL DEFAULT 0;
ALTER TABLE messages ADD COLUMN IF NOT EXISTS bucket smallint NOT NULL DEFAULT 0;
ALTER TABLE gaps ADD COLUMN IF NOT EXISTS bucket smallint NOT NULL DEFAULT 0;
ALTER TABLE receipts ADD COLUMN IF NOT EXISTS bucket smallint NOT NULL DEFAULT 0;
ALTER TABLE pre_key_stocks ADD COLUMN IF NOT EXISTS bucket smallint NOT NULL DEFAULT 0;
ALTER TABLE ec_pre_keys ADD COLUMN IF NOT EXISTS bucket smallint NOT NULL DEFAULT 0;
ALTER TABLE kyber_pre_keys ADD COLUMN IF NOT EXISTS bucket smallint NOT NULL DEFAULT 0;
ALTER TABLE push_tokens ADD COLUMN IF NOT EXISTS bucket smallint NOT NULL DEFAULT 0;
ALTER TABLE push_wakeups ADD COLUMN IF NOT EXISTS bucket smallint NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE push_wakeups DROP COLUMN IF EXISTS bucket;
ALTER TABLE push_tokens DROP COLUMN IF EXISTS bucket;
ALTER TABLE kyber_pre_keys DROP COLUMN IF EXISTS bucket;
ALTER TABLE ec_pre_keys DROP COLUMN IF EXISTS bucket;
ALTER TABLE pre_key_stocks DROP COLUMN IF EXISTS bucket;
ALTER TABLE receipts DROP COLUMN IF EXISTS bucket;
ALTER TABLE gaps DROP COLUMN IF EXISTS bucket;
ALTER TABLE messages DROP COLUMN IF EXISTS bucket;
ALTER TABLE mailboxes DROP COLUMN IF EXISTS bucket;
DROP TABLE IF EXISTS buckets;
