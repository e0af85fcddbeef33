-- User names are compared without regard to ASCII case, whatever the collation of the database: under a
-- Turkish one lower() does not make an i of an I.

-- +goose Up
-- +goose StatementBegin
DO $$
BEGIN
    -- Only a collation that folds otherwise has let this happen.
    IF EXISTS (SELECT FROM users GROUP BY lower(username COLLATE "C") HAVING count(*) > 1) THEN
        RAISE EXCEPTION 'Some users have names that differ in nothing but case. Rename all but one of each, and migrate again: '
            'SELECT id, username, created_at FROM users WHERE lower(username COLLATE "C") IN '
            '(SELECT lower(username COLLATE "C") FROM users GROUP BY 1 HAVING count(*) > 1)';
    END IF;
END $$;
-- +goose StatementEnd
-- The previous binary goes on writing username_key and is told of conflicts there. What it writes gets
-- its name_key from the database, so the relay finds it as it finds its own.
ALTER TABLE users
    ALTER COLUMN username_key TYPE text COLLATE "C",
    ADD COLUMN name_key text COLLATE "C" NOT NULL GENERATED ALWAYS AS (lower(username COLLATE "C")) STORED,
    ADD CONSTRAINT users_name_key_key UNIQUE (name_key);
COMMENT ON COLUMN users.name_key IS 'The name as it is compared: A to Z in lower case, nothing else changed.';

-- +goose Down
ALTER TABLE users
    DROP COLUMN name_key,
    ALTER COLUMN username_key TYPE text COLLATE "default";
