-- How devices are woken up, and which of them are to be.

-- +goose Up
CREATE TABLE push_tokens (
    device_id     uuid PRIMARY KEY REFERENCES devices (id) ON DELETE CASCADE,
    -- 1 FCM, 2 APNs, 3 Web Push.
    kind          smallint    NOT NULL CHECK (kind BETWEEN 1 AND 3),
    -- The app's token, or the endpoint of a Web Push subscription.
    address       text        NOT NULL,
    p256dh        bytea,
    auth          bytea,
    -- Tells a registration from the one that replaced it.
    registered_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    woken_at      timestamptz,
    -- Wake-ups have told of the mail up to this sequence.
    woken_seq     bigint      NOT NULL DEFAULT 0,
    CHECK ((kind = 3) = (p256dh IS NOT NULL AND auth IS NOT NULL))
) WITH (fillfactor = 80, autovacuum_vacuum_cost_delay = 0, autovacuum_vacuum_scale_factor = 0.05);

-- The queue of wake-ups: at most one a device. No foreign key, so that whoever schedules many does not
-- fail with the one whose token goes in this moment; a row without a token is dropped when it is due.
CREATE TABLE push_wakeups (
    device_id    uuid PRIMARY KEY,
    kind         smallint    NOT NULL,
    -- Mail is known up to this sequence. It grows while somebody works on the row, so that what came
    -- meanwhile is not forgotten with it.
    seq          bigint      NOT NULL,
    -- Whoever works on the row moves this into the future: the lease.
    due_at       timestamptz NOT NULL,
    -- How often somebody took it; the number of the lease.
    attempts     integer     NOT NULL DEFAULT 0,
    scheduled_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50, autovacuum_vacuum_cost_delay = 0, autovacuum_vacuum_scale_factor = 0.01);
CREATE INDEX push_wakeups_due_at ON push_wakeups (kind, due_at);

-- One row: the private key of RFC 8292, a scalar of P-256. Subscriptions are bound to it.
CREATE TABLE vapid_keys (
    one        boolean PRIMARY KEY DEFAULT true CHECK (one),
    secret     bytea       NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- +goose Down
DROP TABLE vapid_keys;
DROP TABLE push_wakeups;
DROP TABLE push_tokens;
