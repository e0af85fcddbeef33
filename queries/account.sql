-- Users, sessions, refresh tokens, tickets and signing keys.

-- name: InsertUser :execrows
-- The key is the folded name. The database makes name_key of the name, and nobody but the previous binary reads
-- username_key.
INSERT INTO users (id, username, username_key, password_hash)
VALUES (@id, @username, @key, @password_hash)
ON CONFLICT DO NOTHING;

-- name: UserByName :one
SELECT id, password_hash FROM users WHERE name_key = @key;

-- name: UserByID :one
SELECT id, username, password_hash, created_at, disabled_at, (seen_on::timestamp AT TIME ZONE 'UTC')::timestamptz AS seen_on
FROM users WHERE id = @id;

-- name: LockUser :one
-- Serialises what changes a user's set of devices and sessions.
SELECT id FROM users WHERE id = @id FOR NO KEY UPDATE;

-- name: SetPasswordHash :execrows
-- Changes nothing when the hash is no longer the one that was checked.
UPDATE users SET password_hash = @new_hash WHERE id = @id AND password_hash = @old_hash;

-- name: DeleteUser :execrows
DELETE FROM users WHERE id = @id;

-- name: InsertSession :one
-- Here and below: what expires does so by the database's clock, on which all nodes agree. Tells how many sessions the
-- user had before. The caller holds the user's row.
WITH seen AS (
    UPDATE users u SET seen_on = (now() AT TIME ZONE 'UTC')::date
    WHERE u.id = @user_id AND u.seen_on < (now() AT TIME ZONE 'UTC')::date
)
INSERT INTO sessions (id, user_id, device_id, refresh_key, expires_at)
VALUES (@id, @user_id, @device_id, @refresh_key, now() + @lifetime::interval)
RETURNING (SELECT count(*) FROM sessions s WHERE s.user_id = @user_id) AS others;

-- name: ExtendSession :exec
-- The caller holds the session, and whoever holds the user may wait for it: then the day is left for the next time.
WITH seen AS (
    UPDATE users u SET seen_on = (now() AT TIME ZONE 'UTC')::date WHERE u.id IN (
        SELECT w.id FROM users w JOIN sessions s ON s.user_id = w.id
        WHERE s.id = @id AND w.seen_on < (now() AT TIME ZONE 'UTC')::date FOR NO KEY UPDATE OF w SKIP LOCKED)
)
UPDATE sessions x SET expires_at = now() + @lifetime::interval WHERE x.id = @id;

-- name: SessionByID :one
SELECT s.id, s.user_id, s.device_id, d.number
FROM sessions s LEFT JOIN devices d ON d.id = s.device_id
WHERE s.id = @id AND s.expires_at > now();

-- name: RefreshKey :one
SELECT refresh_key FROM sessions WHERE id = @id;

-- name: LiveSessions :many
-- Which of these sessions still exist.
SELECT id FROM sessions WHERE id = ANY(@ids::uuid[]) AND expires_at > now();

-- name: SessionsOfUser :many
SELECT id, device_id, created_at, expires_at FROM sessions
WHERE user_id = @user_id AND expires_at > now() ORDER BY created_at, id;

-- name: LockSession :one
SELECT s.id, s.user_id, s.device_id, d.number
FROM sessions s LEFT JOIN devices d ON d.id = s.device_id
WHERE s.id = @id AND s.expires_at > now() FOR UPDATE OF s;

-- name: HoldSession :many
-- The session does not end while this transaction lasts.
SELECT id FROM sessions WHERE id = @id AND user_id = @user_id AND expires_at > now() FOR KEY SHARE;

-- name: DeleteSession :execrows
DELETE FROM sessions WHERE id = @id;

-- name: DeleteOtherSessions :many
DELETE FROM sessions WHERE user_id = @user_id AND id <> @keep RETURNING id;

-- name: ForgetPasswordChange :exec
DELETE FROM password_changes WHERE user_id = @user_id;

-- name: RememberPasswordChange :exec
INSERT INTO password_changes (session_id, user_id) SELECT unnest(@sessions::uuid[]), @user_id;

-- name: UserOfPasswordChange :one
-- Whose session this was, if a change of the password has ended it.
SELECT user_id FROM password_changes WHERE session_id = @session_id;

-- name: DeleteOldPasswordChanges :exec
DELETE FROM password_changes WHERE ended_at < now() - interval '30 days';

-- name: DeleteOtherDeviceSessions :many
DELETE FROM sessions WHERE device_id = @device_id::uuid AND id <> @keep RETURNING id;

-- name: DeleteSurplusSessions :many
-- Those beyond a number that were refreshed longest ago, but neither the newest session of a device nor the one that
-- opened its newest socket (see SocketSessions): user-scoped ones, and those of devices that have logged in again.
DELETE FROM sessions WHERE id IN (
    SELECT r.id FROM (
        SELECT s.id, s.expires_at, s.device_id IS NOT NULL AND (
            row_number() OVER (PARTITION BY s.device_id ORDER BY s.created_at DESC, s.id) = 1
            OR s.id = ANY(@with_socket::uuid[])) AS kept
        FROM sessions s WHERE s.user_id = @user_id) r
    ORDER BY r.kept DESC, r.expires_at DESC, r.id OFFSET @keep::int
) RETURNING id;

-- name: DeleteExpiredSessions :execrows
-- Those that somebody holds are left for the next sweep: the order of locks is arbitrary here.
DELETE FROM sessions WHERE id IN (
    SELECT s.id FROM sessions s WHERE s.expires_at <= now() LIMIT @max_rows::int FOR UPDATE SKIP LOCKED);

-- name: InsertRefreshToken :exec
INSERT INTO refresh_tokens (hash, session_id, parent, expires_at)
VALUES (@hash, @session_id, @parent, now() + @lifetime::interval);

-- name: UseRefreshToken :one
-- Marks the token as used, once; a further use within the grace finds the first one's time. Tells how many pairs it
-- has given by now.
UPDATE refresh_tokens SET used_at = coalesce(used_at, now()), uses = uses + 1
WHERE hash = @hash AND session_id = @session_id AND expires_at > now()
  AND (used_at IS NULL OR used_at > now() - @grace::interval)
RETURNING parent, uses;

-- name: DeleteRelatives :exec
-- A token that is used proves that its answer arrived: its siblings and its parent end.
DELETE FROM refresh_tokens
WHERE session_id = @session_id AND hash <> @hash AND (parent = @parent::bytea OR hash = @parent::bytea);

-- name: DeleteSpentRefreshTokens :exec
DELETE FROM refresh_tokens
WHERE session_id = @session_id AND (expires_at <= now() OR used_at <= now() - @grace::interval);

-- name: DeleteRefreshTokens :exec
DELETE FROM refresh_tokens WHERE session_id = @session_id;

-- name: InsertTicket :exec
INSERT INTO gateway_tickets (hash, session_id, expires_at) VALUES (@hash, @session_id, now() + @lifetime::interval);

-- name: InsertTickets :many
-- Tickets for many sessions at once. Returns those made: not for sessions that have ended, nor for those
-- that somebody holds alone at this moment.
INSERT INTO gateway_tickets (hash, session_id, expires_at)
SELECT a.hash, a.session_id, now() + @lifetime::interval
FROM (SELECT unnest(@hashes::bytea[]) AS hash, unnest(@session_ids::uuid[]) AS session_id,
             unnest(@user_ids::uuid[]) AS user_id) a
JOIN sessions s ON s.id = a.session_id AND s.user_id = a.user_id AND s.expires_at > now()
FOR KEY SHARE OF s SKIP LOCKED
RETURNING hash;

-- name: TakeTickets :many
-- A ticket opens one socket: whoever deletes the row has it. A ticket that somebody else is deleting is
-- not waited for.
WITH taken AS (
    DELETE FROM gateway_tickets t WHERE (t).ctid = ANY(ARRAY(
        SELECT (x).ctid FROM gateway_tickets x WHERE x.hash = ANY(@hashes::bytea[]) FOR UPDATE SKIP LOCKED))
    RETURNING t.hash, t.session_id, t.expires_at
)
SELECT t.hash, (t.expires_at > now() AND s.expires_at > now())::boolean AS valid, s.id, s.user_id, s.device_id, d.number
FROM taken t JOIN sessions s ON s.id = t.session_id LEFT JOIN devices d ON d.id = s.device_id;

-- name: DeleteExpiredTickets :execrows
DELETE FROM gateway_tickets WHERE expires_at <= now();

-- name: LockSigningKeys :exec
-- One node at a time creates or rotates signing keys.
SELECT pg_advisory_xact_lock(@key::bigint);

-- name: SigningKeys :many
SELECT id, secret, (created_at < now() - @rotation::interval)::boolean AS due FROM signing_keys ORDER BY created_at DESC, id;

-- name: InsertSigningKey :exec
INSERT INTO signing_keys (id, secret) VALUES (@id, @secret);

-- name: DeleteSigningKeysBefore :execrows
DELETE FROM signing_keys WHERE created_at < now() - @age::interval;

-- name: AccountKey :one
SELECT secret FROM account_key;

-- name: WrongPasswords :many
-- What is remembered of those who try a password: how many seconds ago the last wrong one was, and how many they wait.
SELECT slot, failures, extract(epoch FROM now() - last_at)::float8 AS quiet, extract(epoch FROM next_at - now())::float8 AS wait
FROM wrong_passwords WHERE name = @name AND slot = ANY(@slots::int[]);

-- name: CountWrongPassword :exec
INSERT INTO wrong_passwords (name, slot, failures) VALUES (@name, @slot, 1)
ON CONFLICT (name, slot) DO UPDATE SET failures = wrong_passwords.failures + 1, last_at = now();

-- name: PromiseTurn :exec
INSERT INTO wrong_passwords (name, slot, next_at) VALUES (@name, @slot, now() + @delay::interval)
ON CONFLICT DO NOTHING;

-- name: TakeTurn :one
-- Of those who come at once, on any nodes, one has the turn. Tells when the next one is.
UPDATE wrong_passwords SET next_at = now() + @delay::interval
WHERE name = @name AND slot = @slot AND next_at <= now()
RETURNING next_at;

-- name: GiveTurnBack :exec
-- Unless another has been taken since.
UPDATE wrong_passwords SET next_at = now() WHERE name = @name AND slot = @slot AND next_at = @next_at;

-- name: ForgetWrongPasswords :exec
DELETE FROM wrong_passwords WHERE name = @name AND slot BETWEEN @first_slot AND @last_slot;

-- name: WrongPasswordsOf :one
SELECT coalesce(sum(failures), 0)::bigint AS failures, coalesce(max(last_at), to_timestamp(0))::timestamptz AS last_at
FROM wrong_passwords WHERE name = @name AND failures > 0;

-- name: DeleteOldWrongPasswords :exec
-- Those that a day has passed since, and turns that were not taken within an hour. Those that somebody holds are left
-- for the next sweep, here and below: the order of locks is arbitrary.
DELETE FROM wrong_passwords WHERE ctid = ANY(ARRAY(
    SELECT (w).ctid FROM wrong_passwords w
    WHERE w.last_at < now() - interval '1 day' OR w.failures = 0 AND w.next_at < now() - interval '1 hour'
    FOR UPDATE SKIP LOCKED));

-- name: DeleteFewestWrongPasswords :exec
-- Those beyond a number: the rows with the most failures stay.
DELETE FROM wrong_passwords WHERE ctid = ANY(ARRAY(
    SELECT (v).ctid FROM wrong_passwords v WHERE v.ctid = ANY(ARRAY(
        SELECT (w).ctid FROM wrong_passwords w ORDER BY w.failures DESC, w.last_at DESC OFFSET @keep::int))
    FOR UPDATE SKIP LOCKED));
