-- Attachments and backups: what the blob store holds, and what must be deleted from it. A row leaves
-- attachments or backups only together with a row for blob_trash, in one transaction, so that no blob
-- is forgotten.

-- +goose Up
CREATE TABLE attachments (
    id         uuid PRIMARY KEY,
    user_id    uuid        NOT NULL,
    size       bigint      NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    -- While it is being uploaded: when the upload must be over. Then: when it is deleted.
    expires_at timestamptz NOT NULL,
    -- Whether all of it has arrived.
    stored     boolean     NOT NULL DEFAULT false
);
CREATE INDEX attachments_user_id ON attachments (user_id);
CREATE INDEX attachments_expires_at ON attachments (expires_at);

-- What counts towards the quotas of an account. Whoever begins an upload holds the row.
CREATE TABLE attachment_usage (
    user_id      uuid PRIMARY KEY,
    -- Bytes of all its rows in attachments, each counted for 64 KiB at least.
    stored_bytes bigint NOT NULL DEFAULT 0,
    -- Bytes uploaded on this day (UTC), also those of attachments that are gone.
    day          date   NOT NULL,
    day_bytes    bigint NOT NULL DEFAULT 0
);

-- One row for a device that ever tried to store a backup.
CREATE TABLE backups (
    device_id    uuid PRIMARY KEY,
    -- Advanced by every backup that is stored; 0 before the first.
    version      bigint NOT NULL DEFAULT 0,
    -- The current one: its name in the store, its bytes, its time.
    blob         uuid,
    size         bigint,
    stored_at    timestamptz,
    -- The upload that has the slot: the name it writes to, its bytes, and when the slot is free again.
    upload       uuid,
    upload_size  bigint,
    upload_until timestamptz
);
-- For the search for blobs that nobody knows.
CREATE INDEX backups_blob ON backups (blob);

-- Blobs to be deleted, by their name in the store.
CREATE TABLE blob_trash (
    key    text PRIMARY KEY,
    -- When it is tried; whoever tries moves it ahead first.
    due_at timestamptz NOT NULL DEFAULT now()
) WITH (autovacuum_vacuum_cost_delay = 0, autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX blob_trash_due_at ON blob_trash (due_at);

-- +goose Down
DROP TABLE blob_trash;
DROP TABLE backups;
DROP TABLE attachment_usage;
DROP TABLE attachments;
