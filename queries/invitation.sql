-- Invitations.

-- name: InsertInvitation :one
-- A lifetime of zero is for ever.
INSERT INTO invitations (hash, uses_left, expires_at)
VALUES (@hash, @uses, now() + nullif(@lifetime::interval, '0'::interval))
RETURNING expires_at;

-- name: Invitations :many
SELECT hash, uses_left, created_at, expires_at FROM invitations
WHERE expires_at IS NULL OR expires_at > now() ORDER BY created_at, hash;

-- name: InvitationLives :one
SELECT EXISTS (SELECT FROM invitations WHERE hash = @hash AND (expires_at IS NULL OR expires_at > now()));

-- name: LockInvitation :one
SELECT uses_left FROM invitations WHERE hash = @hash AND (expires_at IS NULL OR expires_at > now()) FOR UPDATE;

-- name: TakeUse :exec
UPDATE invitations SET uses_left = uses_left - 1 WHERE hash = @hash;

-- name: DeleteInvitation :exec
DELETE FROM invitations WHERE hash = @hash;

-- name: InvitationsByPrefix :many
-- Two are enough to see that there is more than one.
SELECT hash FROM invitations
WHERE starts_with(encode(hash, 'hex'), @prefix::text) AND (expires_at IS NULL OR expires_at > now()) LIMIT 2;

-- name: DeleteExpiredInvitations :execrows
-- One that is being used is left for the next sweep.
DELETE FROM invitations WHERE hash IN (
    SELECT i.hash FROM invitations i WHERE i.expires_at <= now() LIMIT @max_rows::int FOR UPDATE SKIP LOCKED);
