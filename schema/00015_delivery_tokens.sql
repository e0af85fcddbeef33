-- Sealed sending: who shows a delivery token of a user may write to that user unnamed.

-- +goose Up

-- A token that two users have added opens the devices of both: nobody learns of another's, and
-- nobody can take one from another.
CREATE TABLE delivery_tokens (
    -- SHA-256 of the token.
    hash       bytea       NOT NULL,
    user_id    uuid        NOT NULL REFERENCES users ON DELETE CASCADE,
    created_at timestamptz NOT NULL DEFAULT now(),
    -- NULL for never.
    expires_at timestamptz,
    PRIMARY KEY (hash, user_id)
);
CREATE INDEX delivery_tokens_user_id ON delivery_tokens (user_id);
CREATE INDEX delivery_tokens_expires_at ON delivery_tokens (expires_at) WHERE expires_at IS NOT NULL;

COMMENT ON COLUMN messages.sender_id IS
    'A user; in a sealed envelope (sender_number 0) a name made of the delivery token, for the fair cap';
COMMENT ON COLUMN messages.sender_device_id IS 'A device; the nil UUID in a sealed envelope';
COMMENT ON COLUMN receipts.sender_device_id IS
    'A device; of a sealed batch a hash of its key and its delivery tokens, as is key';

-- +goose Down
COMMENT ON COLUMN receipts.sender_device_id IS NULL;
COMMENT ON COLUMN messages.sender_device_id IS NULL;
COMMENT ON COLUMN messages.sender_id IS NULL;
DROP TABLE delivery_tokens;
