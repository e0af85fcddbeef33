-- Users whom the operator has disabled, and the day on which a user was last there.

-- +goose Up
ALTER TABLE users
    -- NULL for a user who may log in. The previous binary does not look at it.
    ADD COLUMN disabled_at timestamptz,
    -- The day (UTC) of the last log-in or refresh; of users from before this column the day on which it came. The
    -- previous binary does not write it.
    ADD COLUMN seen_on date NOT NULL DEFAULT (now() AT TIME ZONE 'UTC')::date;

-- +goose Down
ALTER TABLE users DROP COLUMN seen_on,
                  DROP COLUMN disabled_at;
