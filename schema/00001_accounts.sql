-- Users, their sessions, and the keys that sign access tokens.

-- +goose Up
CREATE TABLE signing_keys (
    id         text PRIMARY KEY,
    secret     bytea       NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE signing_keys IS 'HS256 keys for access tokens. The newest signs, the others verify until their tokens have expired.';

CREATE TABLE users (
    id            uuid PRIMARY KEY,
    username      text        NOT NULL,
    -- The name as it is compared: lower case. ASCII only, so lower() is exact.
    username_key  text        NOT NULL UNIQUE,
    password_hash text        NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE devices (
    id                   uuid PRIMARY KEY,
    user_id              uuid        NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    number               smallint    NOT NULL CHECK (number BETWEEN 1 AND 127),
    name                 text,
    created_at           timestamptz NOT NULL DEFAULT now(),
    registration_id      integer     NOT NULL,
    identity_key         bytea       NOT NULL,
    signed_pre_key_id    integer     NOT NULL,
    signed_pre_key       bytea       NOT NULL,
    signed_pre_key_sig   bytea       NOT NULL,
    last_resort_id       integer,
    last_resort_key      bytea,
    last_resort_sig      bytea,
    UNIQUE (user_id, number)
);

-- A device number rests after its device is gone: others may still remember sessions with it.
CREATE TABLE retired_device_numbers (
    user_id    uuid        NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    number     smallint    NOT NULL,
    retired_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, number)
);

CREATE TABLE sessions (
    id         uuid PRIMARY KEY,
    user_id    uuid        NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    device_id  uuid        REFERENCES devices (id) ON DELETE CASCADE,
    -- Marks the refresh tokens of this session: one that was used before is told from one made up.
    refresh_key bytea      NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL
);
COMMENT ON TABLE sessions IS 'A family of refresh tokens. It ends as a whole: log-out, reuse of an old token, password change, takeover.';
CREATE INDEX sessions_user_id ON sessions (user_id);
CREATE INDEX sessions_device_id ON sessions (device_id);
CREATE INDEX sessions_expires_at ON sessions (expires_at);

-- Only live tokens have a row: unused ones, and used ones while a lost response may still be asked
-- for again. Any other token that names a live session is a reuse.
CREATE TABLE refresh_tokens (
    hash       bytea PRIMARY KEY,
    session_id uuid        NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    expires_at timestamptz NOT NULL,
    used_at    timestamptz
);
CREATE INDEX refresh_tokens_session_id ON refresh_tokens (session_id);

-- Single-use keys to the gateway, 30 seconds, stored as SHA-256.
CREATE TABLE gateway_tickets (
    hash       bytea PRIMARY KEY,
    session_id uuid        NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    expires_at timestamptz NOT NULL
);
CREATE INDEX gateway_tickets_session_id ON gateway_tickets (session_id);

-- +goose Down
DROP TABLE gateway_tickets;
DROP TABLE refresh_tokens;
DROP TABLE sessions;
DROP TABLE retired_device_numbers;
DROP TABLE devices;
DROP TABLE users;
DROP TABLE signing_keys;
