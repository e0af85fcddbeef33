-- Attachments, backups, and the blobs that are to be deleted. Where several rows are locked the order is:
-- session, attachments or backups, usage.

-- name: LockUsage :one
-- Makes the row, or locks it and begins a new day.
INSERT INTO attachment_usage AS u (user_id, day) VALUES (@user_id, (now() AT TIME ZONE 'UTC')::date)
ON CONFLICT (user_id) DO UPDATE
SET day_bytes = CASE WHEN u.day = excluded.day THEN u.day_bytes ELSE 0 END, day = excluded.day
RETURNING u.stored_bytes, u.day_bytes,
    extract(epoch FROM (u.day + 1)::timestamp AT TIME ZONE 'UTC' - now())::bigint AS seconds_of_day_left;

-- name: NextExpiry :one
-- How many seconds until the first of the user's attachments goes.
SELECT extract(epoch FROM expires_at - now())::bigint AS seconds FROM attachments WHERE user_id = @user_id ORDER BY expires_at LIMIT 1;

-- name: ChargeUsage :exec
UPDATE attachment_usage SET stored_bytes = stored_bytes + @size, day_bytes = day_bytes + @size WHERE user_id = @user_id;

-- name: InsertAttachment :exec
INSERT INTO attachments (id, user_id, size, expires_at) VALUES (@id, @user_id, @size, now() + @upload_time::interval);

-- name: StoreAttachment :one
-- Changes nothing when the account is gone.
UPDATE attachments SET stored = true, expires_at = now() + @lifetime::interval WHERE id = @id AND NOT stored
RETURNING expires_at;

-- name: LiveAttachment :one
SELECT size, floor(extract(epoch FROM expires_at - now()) * 1000000)::bigint AS microseconds_left FROM attachments WHERE id = @id AND stored AND expires_at > now();

-- name: TrashAttachment :exec
-- Gives up an upload, also one whose commit nobody heard of. Its bytes are no longer stored; those that were received still
-- count for the day, unless we are to blame. least is what each counts for at least.
WITH gone AS (
    DELETE FROM attachments WHERE id = @id RETURNING user_id, size, created_at
), given_back AS (
    UPDATE attachment_usage u SET stored_bytes = u.stored_bytes - greatest(g.size, @least::bigint),
        day_bytes = CASE WHEN u.day = (g.created_at AT TIME ZONE 'UTC')::date THEN greatest(u.day_bytes - greatest(g.size, @least::bigint) + @received::bigint, 0) ELSE u.day_bytes END
    FROM gone g WHERE u.user_id = g.user_id
)
INSERT INTO blob_trash (key) VALUES (@key) ON CONFLICT (key) DO UPDATE SET due_at = now();

-- name: TrashExpiredAttachments :one
-- Some of those whose time is over: expired ones, and uploads that nobody ended. Returns how many.
WITH due AS (
    SELECT a.id FROM attachments a WHERE a.expires_at <= now() ORDER BY a.expires_at LIMIT @max_rows::int FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM attachments a USING due d WHERE a.id = d.id RETURNING a.id, a.user_id, a.size, a.created_at, a.stored
), sums AS (
    SELECT g.user_id, sum(greatest(g.size, @least::bigint))::bigint AS freed,
        coalesce(sum(greatest(g.size, @least::bigint)) FILTER (WHERE NOT g.stored AND (g.created_at AT TIME ZONE 'UTC')::date = (now() AT TIME ZONE 'UTC')::date), 0)::bigint AS of_today
    FROM gone g GROUP BY g.user_id
), given_back AS (
    UPDATE attachment_usage u SET stored_bytes = u.stored_bytes - s.freed,
        day_bytes = CASE WHEN u.day = (now() AT TIME ZONE 'UTC')::date THEN greatest(u.day_bytes - s.of_today, 0) ELSE u.day_bytes END
    FROM sums s WHERE u.user_id = s.user_id
), trashed AS (
    INSERT INTO blob_trash (key) SELECT 'attachments/' || g.id::text FROM gone g ON CONFLICT (key) DO NOTHING
)
SELECT count(*)::int FROM gone;

-- name: TrashAttachmentsOf :exec
-- With the account.
WITH gone AS (DELETE FROM attachments WHERE user_id = @user_id RETURNING id)
INSERT INTO blob_trash (key) SELECT 'attachments/' || g.id::text FROM gone g ON CONFLICT (key) DO NOTHING;

-- name: DeleteUsage :exec
DELETE FROM attachment_usage WHERE user_id = @user_id;

-- name: AttachmentsOf :many
SELECT id, size, created_at, expires_at FROM attachments WHERE user_id = @user_id AND stored ORDER BY created_at, id;

-- name: UploadedToday :one
SELECT day_bytes FROM attachment_usage WHERE user_id = @user_id AND day = (now() AT TIME ZONE 'UTC')::date;

-- name: LockBackup :one
-- Makes the row, or locks it.
INSERT INTO backups AS b (device_id) VALUES (@device_id)
ON CONFLICT (device_id) DO UPDATE SET version = b.version
RETURNING b.version, b.upload, coalesce(b.upload_until > now(), false)::boolean AS running;

-- name: BeginBackup :exec
UPDATE backups SET upload = @upload, upload_size = @size, upload_until = now() + @upload_time::interval
WHERE device_id = @device_id;

-- name: StoreBackup :one
-- Makes the upload the current backup and moves the old one to the trash, unless the slot was lost.
WITH old AS (
    SELECT b.device_id, b.blob FROM backups b WHERE b.device_id = @device_id AND b.upload = @upload FOR UPDATE
), stored AS (
    UPDATE backups b SET version = b.version + 1, blob = b.upload, size = b.upload_size, stored_at = now(),
        upload = NULL, upload_size = NULL, upload_until = NULL
    FROM old o WHERE b.device_id = o.device_id
    RETURNING b.version
), trashed AS (
    INSERT INTO blob_trash (key) SELECT 'backups/' || o.blob::text FROM old o WHERE o.blob IS NOT NULL ON CONFLICT (key) DO NOTHING
)
SELECT s.version FROM stored s;

-- name: AwaitBackup :many
-- Whoever is changing the row has ended.
SELECT device_id FROM backups WHERE device_id = @device_id FOR UPDATE;

-- name: GiveUpBackup :exec
-- Frees the slot of an upload that failed, if it still has it, and moves what it wrote to the trash, unless
-- that is the backup: a commit that nobody heard of.
WITH freed AS (
    UPDATE backups SET upload = NULL, upload_size = NULL, upload_until = NULL
    WHERE device_id = @device_id AND upload = @upload::uuid
)
INSERT INTO blob_trash (key) SELECT 'backups/' || (@upload::uuid)::text
WHERE NOT EXISTS (SELECT FROM backups b WHERE b.device_id = @device_id AND b.blob = @upload::uuid)
ON CONFLICT (key) DO UPDATE SET due_at = now();

-- name: Backup :one
SELECT version, blob::uuid AS blob, size::bigint AS size, stored_at::timestamptz AS stored_at FROM backups WHERE device_id = @device_id AND blob IS NOT NULL;

-- name: TrashBackup :exec
-- With the device: the backup, and what an upload may have written.
WITH gone AS (DELETE FROM backups WHERE device_id = @device_id RETURNING blob, upload)
INSERT INTO blob_trash (key)
SELECT 'backups/' || n.name::text FROM (SELECT g.blob AS name FROM gone g UNION SELECT g.upload FROM gone g) n WHERE n.name IS NOT NULL
ON CONFLICT (key) DO NOTHING;

-- name: Trash :exec
INSERT INTO blob_trash (key) SELECT unnest(@keys::text[]) ON CONFLICT (key) DO NOTHING;

-- name: LeaseTrash :many
-- Takes some of what is due for a while.
UPDATE blob_trash t SET due_at = now() + @lease::interval
FROM (SELECT b.key FROM blob_trash b WHERE b.due_at <= now() ORDER BY b.due_at LIMIT @max_rows::int FOR UPDATE SKIP LOCKED) due
WHERE t.key = due.key
RETURNING t.key, t.due_at;

-- name: ForgetTrash :exec
-- Unless it was thrown away again meanwhile.
DELETE FROM blob_trash WHERE key = ANY(@keys::text[]) AND due_at = @due_at;

-- name: PostponeTrash :exec
-- What could not be deleted is tried again after a while.
UPDATE blob_trash SET due_at = now() + @wait::interval WHERE key = ANY(@keys::text[]) AND due_at = @due_at;

-- name: WaitingTrash :one
SELECT count(*) FROM (SELECT b.key FROM blob_trash b ORDER BY b.key LIMIT @at_most::int) w;

-- name: KnownAttachments :many
SELECT id FROM attachments WHERE id = ANY(@ids::uuid[]);

-- name: KnownBackups :many
SELECT blob::uuid AS blob FROM backups WHERE blob = ANY(@ids::uuid[]);
