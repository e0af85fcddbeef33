-- A batch for devices of several buckets is stored in parts, each with a receipt of its own.

-- +goose Up

-- The receipt of such a batch itself: it has the key, and its submissions lie in the parts. Nothing is rewritten, and what
-- the previous binary stores is none.
ALTER TABLE receipts ADD COLUMN IF NOT EXISTS claim boolean NOT NULL DEFAULT false;

-- +goose Down
ALTER TABLE receipts DROP COLUMN IF EXISTS claim;
