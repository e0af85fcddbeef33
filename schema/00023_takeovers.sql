-- Mail for an old identity is not delivered after a takeover, also where a takeover and a send concern two servers.

-- +goose Up

-- The devices_version of the user since the device was last taken over, 0 if it was not: a send that names a lower one
-- was encrypted before. Nothing is rewritten. The previous binary leaves it as it is, and needs it for nothing: it is
-- looked at where there are several buckets.
ALTER TABLE mailboxes ADD COLUMN IF NOT EXISTS takeover_version bigint NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE mailboxes DROP COLUMN IF EXISTS takeover_version;
