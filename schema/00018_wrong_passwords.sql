-- Wrong passwords are counted for each user name, so that guessing one takes long.

-- +goose Up

-- One row: hashes of this relay are keyed with it, so that nobody finds out by trying what they are of, or makes two
-- the same. 244 random bits.
CREATE TABLE account_key (secret bytea NOT NULL);
INSERT INTO account_key VALUES (uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()));

-- Counted whether or not there is such a user. No row refers to one.
CREATE TABLE wrong_passwords (
    -- HMAC-SHA256 of the name, 16 bytes.
    name     bytea       NOT NULL,
    -- Who gave them: -1 for all who have shown no device of the user, -2 for those with a session of it, from 65536 on
    -- a device that was shown. From 0 to 65535 one of as many parts into which client addresses fall: when its turn is.
    slot     integer     NOT NULL,
    failures integer     NOT NULL DEFAULT 0,
    last_at  timestamptz NOT NULL DEFAULT now(),
    next_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (name, slot)
);

-- +goose Down
DROP TABLE wrong_passwords;
DROP TABLE account_key;
