-- Devices whose sessions were ended by a change of the password are told so.

-- +goose Up

-- The sessions that the last change of a user's password has ended, at most 100, for 30 days.
CREATE TABLE password_changes (
    session_id uuid        PRIMARY KEY,
    user_id    uuid        NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    ended_at   timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX password_changes_user_id ON password_changes (user_id);

-- +goose Down
DROP TABLE password_changes;
