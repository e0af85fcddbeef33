-- The keys behind sender certificates.

-- +goose Up

-- The trust root signs the server key, and that the certificates. One row, made at the first start.
CREATE TABLE certificate_keys (
    one                boolean PRIMARY KEY DEFAULT true CHECK (one),
    root_secret        bytea       NOT NULL,
    -- The id in the certificate of the server key, 1 for the first.
    server_id          integer     NOT NULL,
    server_secret      bytea       NOT NULL,
    server_certificate bytea       NOT NULL,
    created_at         timestamptz NOT NULL DEFAULT now()
);

-- +goose Down
DROP TABLE certificate_keys;
