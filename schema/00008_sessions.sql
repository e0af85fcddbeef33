-- Refresh tokens know where they come from, and mailboxes which session opened their newest socket.

-- +goose Up
ALTER TABLE refresh_tokens
    -- The token that this one was traded for. Tokens with one parent are siblings.
    ADD COLUMN parent bytea,
    -- How many pairs this token has given.
    ADD COLUMN uses smallint NOT NULL DEFAULT 0;

-- A session with a live socket is not ended when there are too many. Nobody clears it: at most one a device.
ALTER TABLE mailboxes ADD COLUMN socket_session uuid;

-- +goose Down
ALTER TABLE mailboxes DROP COLUMN socket_session;
ALTER TABLE refresh_tokens DROP COLUMN uses, DROP COLUMN parent;
