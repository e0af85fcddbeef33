-- Mailboxes. Everything here is keyed by a device and nothing joins across devices, so that the
-- tables can be spread by that column. There are no foreign keys: an envelope outlives its sender,
-- and whoever deletes a device deletes its mailbox in the same transaction.

-- +goose Up
CREATE TABLE mailboxes (
    device_id uuid PRIMARY KEY,
    -- The sequence of the next envelope. Advanced under the row's lock, which is held until commit:
    -- sequence order is commit order.
    next_seq  bigint  NOT NULL DEFAULT 1,
    -- Nothing is pending at or below this sequence; reading starts above it.
    floor_seq bigint  NOT NULL DEFAULT 0,
    -- The highest sequence that was acknowledged. What is pending below it was sent and skipped.
    acked_seq bigint  NOT NULL DEFAULT 0,
    -- How many envelopes are pending.
    pending   integer NOT NULL DEFAULT 0,
    -- Advanced by every socket that opens and by a takeover. Sockets below it are out of date, so
    -- nodes agree on which of two sockets is the newer one.
    generation bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 70, autovacuum_vacuum_cost_delay = 0, autovacuum_vacuum_scale_factor = 0.05);

CREATE TABLE messages (
    device_id        uuid        NOT NULL,
    seq              bigint      NOT NULL,
    sender_id        uuid        NOT NULL,
    sender_device_id uuid        NOT NULL,
    sender_number    smallint    NOT NULL,
    accepted_at      timestamptz NOT NULL,
    -- How often it was sent again although later envelopes had been acknowledged.
    skipped          smallint    NOT NULL DEFAULT 0,
    body             bytea       NOT NULL,
    PRIMARY KEY (device_id, seq)
) WITH (autovacuum_vacuum_cost_delay = 0, autovacuum_vacuum_scale_factor = 0.01,
        autovacuum_vacuum_insert_scale_factor = 0.2);
-- Ciphertext does not compress.
ALTER TABLE messages ALTER COLUMN body SET STORAGE EXTERNAL;

-- What was dropped and not yet reported and followed by an acknowledgement: the sequences
-- from_seq..to_seq, both included.
CREATE TABLE gaps (
    device_id uuid     NOT NULL,
    from_seq  bigint   NOT NULL,
    to_seq    bigint   NOT NULL,
    reason    smallint NOT NULL,
    PRIMARY KEY (device_id, from_seq)
);

-- The first answer to every batch, so that a repeated one stores nothing and hears the same. A day's
-- receipts share a slot, the number of the day modulo 3; the slot of the day before yesterday is
-- emptied as a whole.
CREATE TABLE receipts (
    sender_device_id uuid        NOT NULL,
    key              uuid        NOT NULL,
    slot             smallint    NOT NULL,
    -- SHA-256 of the request body.
    digest           bytea       NOT NULL,
    -- The submissions (by position) that named a device without a mailbox. The other failures follow
    -- from the body alone.
    invalid          smallint[]  NOT NULL,
    PRIMARY KEY (sender_device_id, key, slot)
) PARTITION BY LIST (slot);
CREATE TABLE receipts_0 PARTITION OF receipts FOR VALUES IN (0);
CREATE TABLE receipts_1 PARTITION OF receipts FOR VALUES IN (1);
CREATE TABLE receipts_2 PARTITION OF receipts FOR VALUES IN (2);

-- +goose Down
DROP TABLE receipts;
DROP TABLE gaps;
DROP TABLE messages;
DROP TABLE mailboxes;
