-- A number that tells a sender that its list of somebody's devices is out of date.

-- +goose Up

-- Grows when a device of the user is added, removed or taken over. Changes that the previous binary
-- makes while both run are not counted.
ALTER TABLE users ADD COLUMN devices_version bigint NOT NULL DEFAULT 1;

-- +goose Down
ALTER TABLE users DROP COLUMN devices_version;
