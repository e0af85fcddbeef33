-- Sender certificates, and the keys that sign them.

-- name: LockCertificateKeys :exec
-- One node at a time makes the keys.
SELECT pg_advisory_xact_lock(@key::bigint);

-- name: CertificateKeys :one
SELECT root_secret, server_id, server_secret, server_certificate FROM certificate_keys;

-- name: InsertCertificateKeys :exec
INSERT INTO certificate_keys (root_secret, server_id, server_secret, server_certificate)
VALUES (@root_secret, @server_id, @server_secret, @server_certificate);

-- name: ReplaceServerKey :exec
UPDATE certificate_keys SET server_id = @server_id, server_secret = @server_secret, server_certificate = @server_certificate;

-- name: ReplaceCertificateKeys :exec
UPDATE certificate_keys SET root_secret = @root_secret, server_id = @server_id, server_secret = @server_secret,
    server_certificate = @server_certificate;

-- name: CertifiedDevice :one
-- The device of a live session as it is now, and what time it is.
SELECT d.user_id, d.id, d.number, d.identity_key, now()::timestamptz AS asked_at
FROM sessions s JOIN devices d ON d.id = s.device_id
WHERE s.id = @session_id AND s.device_id = @device_id::uuid AND s.expires_at > now();
