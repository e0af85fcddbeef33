-- How devices are woken up: tokens, the queue of wake-ups, and the key that Web Push knows us by. Whoever
-- locks several rows does so in the order of buckets and in each in that of devices, and tokens before wake-ups.

-- name: SetPushToken :execrows
-- Changes nothing when it is the one that is there. What the old one was told of, the new one was not.
INSERT INTO push_tokens (bucket, device_id, kind, address, p256dh, auth, registered_at)
VALUES (@bucket, @device_id, @kind, @address, @p256dh, @auth, clock_timestamp())
ON CONFLICT ON CONSTRAINT push_tokens_pkey DO UPDATE SET kind = excluded.kind, address = excluded.address, p256dh = excluded.p256dh,
    auth = excluded.auth, registered_at = excluded.registered_at, woken_seq = 0
WHERE (push_tokens.kind, push_tokens.address, push_tokens.p256dh, push_tokens.auth)
      IS DISTINCT FROM (excluded.kind, excluded.address, excluded.p256dh, excluded.auth);

-- name: DeletePushToken :exec
DELETE FROM push_tokens t WHERE t.bucket = @bucket AND t.device_id = @device_id;

-- name: DeleteWakeup :exec
DELETE FROM push_wakeups w WHERE w.bucket = @bucket AND w.device_id = @device_id;

-- name: PushTokenSummary :one
-- For the account export.
SELECT t.kind, t.registered_at, t.woken_at FROM push_tokens t WHERE t.bucket = @bucket AND t.device_id = @device_id;

-- name: ScheduleWakeups :execrows
-- For those of these devices that can be woken up and have mail of which no wake-up has told. Quiet
-- envelopes at the end of a mailbox (quiet_to = next_seq - 1) count as if they were not there: others must
-- be pending before them. One that waits is left as it is; one that is being worked on learns of the newer
-- mail. In the order of devices. The jitter, of each device its own, is not made here: a statement that is
-- random is not sent on to another server.
INSERT INTO push_wakeups (bucket, device_id, kind, seq, due_at)
SELECT t.bucket, t.device_id, t.kind, loud.seq,
       greatest(now() + @grace::interval, t.woken_at + @pause::interval) + d.jitter * interval '1 millisecond'
FROM (SELECT unnest(@device_ids::uuid[]) AS device_id, unnest(@jitters_ms::bigint[]) AS jitter) d
JOIN push_tokens t ON t.bucket = @bucket AND t.device_id = d.device_id
JOIN mailboxes m ON m.bucket = @bucket AND m.device_id = t.device_id
CROSS JOIN LATERAL (SELECT CASE WHEN m.quiet_to = m.next_seq - 1 THEN m.quiet_from - 1 ELSE m.next_seq - 1 END AS seq) loud
WHERE t.kind = ANY(@kinds::smallint[]) AND m.pending > 0 AND loud.seq > t.woken_seq
  AND (loud.seq = m.next_seq - 1 OR EXISTS (
      SELECT 1 FROM messages x
      WHERE x.bucket = @bucket AND x.device_id = m.device_id AND x.seq > m.floor_seq AND x.seq <= loud.seq))
  AND NOT EXISTS (SELECT 1 FROM push_wakeups w WHERE w.bucket = @bucket AND w.device_id = t.device_id AND w.attempts = 0)
ORDER BY t.device_id
ON CONFLICT ON CONSTRAINT push_wakeups_pkey DO UPDATE SET seq = greatest(push_wakeups.seq, excluded.seq);

-- name: PushTokensAfter :many
-- One step of the sweeper's walk over the tokens.
SELECT t.device_id FROM push_tokens t
WHERE t.bucket = @bucket AND t.device_id > @after_device ORDER BY t.device_id LIMIT @max_rows::int;

-- name: CancelWakeups :execrows
-- In the order of devices.
DELETE FROM push_wakeups w
USING (SELECT c.device_id FROM push_wakeups c WHERE c.bucket = @bucket AND c.device_id = ANY(@device_ids::uuid[])
       ORDER BY c.device_id FOR UPDATE) locked
WHERE w.bucket = @bucket AND w.device_id = locked.device_id;

-- name: TakeWakeups :many
-- Leases what is due, oldest first. Rows that another node holds are passed over.
UPDATE push_wakeups x SET due_at = now() + @lease::interval, attempts = x.attempts + 1
WHERE x.bucket = @bucket AND (x).ctid = ANY(ARRAY(
    SELECT (w).ctid FROM push_wakeups w WHERE w.bucket = @bucket AND w.kind = @kind AND w.due_at <= now()
    ORDER BY w.due_at LIMIT @max_rows::int FOR UPDATE SKIP LOCKED))
RETURNING x.device_id, x.attempts;

-- name: LeasedWakeups :many
-- Those of these leases that still hold, with what is needed to send, whether there still is a reason to
-- (as in ScheduleWakeups), whether they have been tried for too long, and whether their endpoint has
-- answered before. seq is that of the newest envelope, quiet or not: whoever is woken up fetches all.
SELECT w.device_id, w.attempts, coalesce(t.address, '')::text AS address, t.p256dh, t.auth,
       coalesce(t.registered_at, now())::timestamptz AS registered_at,
       coalesce(m.next_seq - 1, 9223372036854775807)::bigint AS seq,
       coalesce(m.pending > 0 AND loud.seq > t.woken_seq AND (loud.seq = m.next_seq - 1 OR EXISTS (
           SELECT 1 FROM messages x
           WHERE x.bucket = @bucket AND x.device_id = m.device_id AND x.seq > m.floor_seq AND x.seq <= loud.seq
       )), false)::boolean AS wanted,
       (w.scheduled_at < now() - @patience::interval)::boolean AS late,
       coalesce(t.woken_at > t.registered_at, false)::boolean AS answered
FROM (SELECT unnest(@device_ids::uuid[]) AS device_id, unnest(@attempts::integer[]) AS attempts) a
JOIN push_wakeups w ON w.bucket = @bucket AND w.device_id = a.device_id AND w.attempts = a.attempts
LEFT JOIN push_tokens t ON t.bucket = @bucket AND t.device_id = w.device_id AND t.kind = w.kind
LEFT JOIN mailboxes m ON m.bucket = @bucket AND m.device_id = w.device_id
CROSS JOIN LATERAL (SELECT CASE WHEN m.quiet_to = m.next_seq - 1 THEN m.quiet_from - 1 ELSE m.next_seq - 1 END AS seq) loud;

-- name: LockPushTokens :exec
-- Before the wake-ups, as whoever deletes a device does, and in the order of devices.
SELECT t.device_id FROM push_tokens t WHERE t.bucket = @bucket AND t.device_id = ANY(@device_ids::uuid[])
ORDER BY t.device_id FOR UPDATE;

-- name: LockWakeups :many
-- In the order of devices. Returns the time, once for each.
SELECT now()::timestamptz AS now FROM push_wakeups w WHERE w.bucket = @bucket AND w.device_id = ANY(@device_ids::uuid[])
ORDER BY w.device_id FOR UPDATE;

-- name: ForgetPushTokens :exec
-- Unless they have been replaced.
DELETE FROM push_tokens t
USING (SELECT unnest(@device_ids::uuid[]) AS device_id, unnest(@registered_ats::timestamptz[]) AS registered_at) a
WHERE t.bucket = @bucket AND t.device_id = a.device_id AND t.registered_at = a.registered_at;

-- name: MarkWoken :exec
-- The devices have been told of their mail up to a sequence, or in vain: both count as a wake-up.
UPDATE push_tokens t SET woken_seq = greatest(t.woken_seq, a.seq), woken_at = now()
FROM (SELECT unnest(@device_ids::uuid[]) AS device_id, unnest(@registered_ats::timestamptz[]) AS registered_at,
             unnest(@seqs::bigint[]) AS seq) a
WHERE t.bucket = @bucket AND t.device_id = a.device_id AND t.registered_at = a.registered_at;

-- name: EndWakeups :exec
-- Nothing is left to tell of, up to these sequences.
DELETE FROM push_wakeups w
USING (SELECT unnest(@device_ids::uuid[]) AS device_id, unnest(@attempts::integer[]) AS attempts, unnest(@seqs::bigint[]) AS seq) a
WHERE w.bucket = @bucket AND w.device_id = a.device_id AND w.attempts = a.attempts AND w.seq <= a.seq;

-- name: PostponeWakeups :exec
-- now is the database's time, as LockWakeups returns it, and the times are counted from it.
UPDATE push_wakeups w SET due_at = a.due_at,
    attempts = CASE WHEN a.anew THEN 0 ELSE w.attempts END,
    scheduled_at = CASE WHEN a.anew THEN @now::timestamptz ELSE w.scheduled_at END
FROM (SELECT unnest(@device_ids::uuid[]) AS device_id, unnest(@attempts::integer[]) AS attempts,
             unnest(@due_ats::timestamptz[]) AS due_at, unnest(@anew::boolean[]) AS anew) a
WHERE w.bucket = @bucket AND w.device_id = a.device_id AND w.attempts = a.attempts;

-- name: LockVapidKey :exec
-- One node at a time makes the key.
SELECT pg_advisory_xact_lock(@key::bigint);

-- name: VapidKey :one
SELECT secret FROM vapid_keys;

-- name: InsertVapidKey :exec
INSERT INTO vapid_keys (secret) VALUES (@secret);
