-- Invitations: where the operator says so, whoever registers needs one.

-- +goose Up

-- The last use deletes the row.
CREATE TABLE invitations (
    -- SHA-256 of the invitation.
    hash       bytea       PRIMARY KEY,
    uses_left  integer     NOT NULL CHECK (uses_left > 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    -- NULL for never.
    expires_at timestamptz
);

-- +goose Down
DROP TABLE invitations;
