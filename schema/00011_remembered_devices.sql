-- Which devices somebody may remember: the number of such a device rests when it is removed.

-- +goose Up

-- A bundle of the device was handed out, or mail was sent by it. Taken for true of those that are
-- there, and of those that the previous binary makes.
ALTER TABLE pre_key_stocks ADD COLUMN remembered boolean NOT NULL DEFAULT true;

-- +goose Down
ALTER TABLE pre_key_stocks DROP COLUMN remembered;
