-- Mailboxes: envelopes, gaps and receipts. Whoever writes to one locks its row in mailboxes first,
-- and several in the order of buckets and within one in that of device_id.
--
-- Here and in the other files: what is kept for a device is asked for by its bucket too, in each reference to a
-- table, so that a statement concerns one server only where the buckets lie on several.

-- name: InsertMailbox :exec
INSERT INTO mailboxes (bucket, device_id) VALUES (@bucket, @device_id);

-- name: LockMailboxes :many
SELECT m.device_id, m.next_seq, m.floor_seq, m.pending, m.quiet_from, m.quiet_to, m.takeover_version
FROM mailboxes m WHERE m.bucket = @bucket AND m.device_id = ANY(@device_ids::uuid[])
ORDER BY m.device_id FOR NO KEY UPDATE;

-- name: HoldMailboxes :exec
-- LockMailboxes for those who need not see them.
SELECT m.device_id FROM mailboxes m WHERE m.bucket = @bucket AND m.device_id = ANY(@device_ids::uuid[])
ORDER BY m.device_id FOR NO KEY UPDATE;

-- name: AdvanceMailboxes :exec
UPDATE mailboxes m SET next_seq = a.next_seq, pending = a.pending, quiet_from = a.quiet_from, quiet_to = a.quiet_to
FROM (SELECT unnest(@device_ids::uuid[]) AS device_id, unnest(@next_seqs::bigint[]) AS next_seq,
             unnest(@pendings::integer[]) AS pending, unnest(@quiet_froms::bigint[]) AS quiet_from,
             unnest(@quiet_tos::bigint[]) AS quiet_to) a
WHERE m.bucket = @bucket AND m.device_id = a.device_id;

-- name: SerialiseReceipts :exec
-- Around midnight, when the slot changes: two requests with one key must not find a slot each.
SELECT pg_advisory_xact_lock(@key::bigint);

-- name: InsertReceipts :many
-- Returns the receipts that are new, and the time: the database's, so that all nodes agree on it, and
-- taken with the mailboxes locked, so that it does not run against their sequences. A request that
-- comes again within 24 hours finds its receipt in today's slot (and waits for its writer, if that has
-- not committed) or in yesterday's.
INSERT INTO receipts (bucket, sender_device_id, key, slot, digest, invalid, claim)
SELECT b.bucket, r.sender_device_id, r.key, today.slot, r.digest, string_to_array(r.invalid, ',')::smallint[], r.claim
FROM buckets b
CROSS JOIN (SELECT unnest(@sender_device_ids::uuid[]) AS sender_device_id, unnest(@keys::uuid[]) AS key,
             unnest(@digests::bytea[]) AS digest, unnest(@invalids::text[]) AS invalid,
             unnest(@claims::boolean[]) AS claim) r
CROSS JOIN (SELECT (extract(epoch FROM now())::bigint / 86400 % 3)::smallint AS slot) today
WHERE b.bucket = @bucket AND (
    SELECT true FROM receipts y
    WHERE y.bucket = @bucket AND y.sender_device_id = r.sender_device_id AND y.key = r.key AND y.slot <> today.slot LIMIT 1) IS NULL
ORDER BY r.sender_device_id, r.key
ON CONFLICT DO NOTHING
RETURNING sender_device_id, key, statement_timestamp()::timestamptz AS now;

-- name: ReceiptsByKey :many
SELECT r.sender_device_id, r.key, r.digest, r.invalid, r.claim
FROM (SELECT unnest(@sender_device_ids::uuid[]) AS sender_device_id, unnest(@keys::uuid[]) AS key) w
CROSS JOIN LATERAL (
    SELECT y.sender_device_id, y.key, y.digest, y.invalid, y.claim FROM receipts y
    WHERE y.bucket = @bucket AND y.sender_device_id = w.sender_device_id AND y.key = w.key LIMIT 1
) r;

-- name: SpentReceiptSlot :one
-- The slot to empty, which is tomorrow's; none shortly before midnight, when it may be in use.
SELECT ((extract(epoch FROM now())::bigint / 86400 + 1) % 3)::smallint AS slot
WHERE extract(epoch FROM now())::bigint % 86400 < 82800;

-- name: WaitBriefly :exec
-- Whoever comes after a TRUNCATE that waits, waits as well: every send.
SELECT set_config('lock_timeout', '50ms', true);

-- name: EmptyReceipts0 :exec
TRUNCATE receipts_0;

-- name: EmptyReceipts1 :exec
TRUNCATE receipts_1;

-- name: EmptyReceipts2 :exec
TRUNCATE receipts_2;

-- name: ReceiptsIn :one
SELECT EXISTS (SELECT 1 FROM receipts r WHERE r.bucket = @bucket AND r.slot = @slot);

-- name: InsertMessages :exec
INSERT INTO messages (bucket, device_id, seq, sender_id, sender_device_id, sender_number, accepted_at, body)
SELECT @bucket::smallint, unnest(@device_ids::uuid[]), unnest(@seqs::bigint[]), unnest(@sender_ids::uuid[]),
       unnest(@sender_device_ids::uuid[]), unnest(@sender_numbers::smallint[]),
       @accepted_at::timestamptz, unnest(@bodies::bytea[]);

-- name: ReadMessages :many
-- The next envelopes above a sequence: at least one, then as many as fit.
SELECT r.seq, r.sender_id, r.sender_device_id, r.sender_number, r.accepted_at, r.body,
       (r.accepted_at <= now() - @lifetime::interval)::boolean AS expired
FROM (
    SELECT m.seq, m.sender_id, m.sender_device_id, m.sender_number, m.accepted_at, m.body,
           sum(octet_length(m.body)) OVER (ORDER BY m.seq) - octet_length(m.body) AS bytes_before
    FROM (
        SELECT x.seq, x.sender_id, x.sender_device_id, x.sender_number, x.accepted_at, x.body FROM messages x
        WHERE x.bucket = @bucket AND x.device_id = @device_id AND x.seq > @after_seq ORDER BY x.seq LIMIT @max_rows::int
    ) m
) r
WHERE r.bytes_before < @max_bytes::bigint
ORDER BY r.seq;

-- name: OpenMailbox :one
-- A socket opens: it gets the newest generation, and where to start and end the backlog.
UPDATE mailboxes m SET generation = m.generation + 1, socket_session = @session_id
WHERE m.bucket = @bucket AND m.device_id = @device_id
RETURNING m.generation, m.next_seq, m.floor_seq;

-- name: OpenMailboxes :many
-- OpenMailbox for many devices, and sockets[i] of device_ids[i] at once: they have the newest generations,
-- one after the other. Mailboxes that somebody holds at this moment are left out.
UPDATE mailboxes m SET generation = m.generation + o.sockets, socket_session = o.session_id
FROM (SELECT x.device_id, a.session_id, a.sockets
      FROM (SELECT unnest(@device_ids::uuid[]) AS device_id, unnest(@session_ids::uuid[]) AS session_id,
                   unnest(@sockets::integer[]) AS sockets) a
      JOIN mailboxes x ON x.bucket = @bucket AND x.device_id = a.device_id
      FOR NO KEY UPDATE OF x SKIP LOCKED) o
WHERE m.bucket = @bucket AND m.device_id = o.device_id
RETURNING m.device_id, m.generation, m.next_seq, m.floor_seq;

-- name: SupersedeSockets :one
-- A takeover: all sockets that are open now are out of date, and none is the newest.
UPDATE mailboxes m SET generation = m.generation + 1, socket_session = NULL, takeover_version = @takeover_version
WHERE m.bucket = @bucket AND m.device_id = @device_id
RETURNING m.generation;

-- name: MailboxHeads :many
-- Where these mailboxes stand, for the poll, and for sockets that begin, which also ask whether there are gaps:
-- one look-up along the primary key for each mailbox. taken_over: no socket was opened since the last takeover,
-- or ever.
SELECT m.device_id, m.next_seq, m.generation, (m.socket_session IS NULL)::boolean AS taken_over,
       (@with_gaps::boolean AND (SELECT true FROM gaps g WHERE g.bucket = @bucket AND g.device_id = m.device_id LIMIT 1) IS NOT NULL)::boolean AS gaps
FROM mailboxes m
WHERE m.bucket = @bucket AND m.device_id = ANY(@device_ids::uuid[]);

-- name: SocketSessions :many
-- The sessions that opened the newest sockets of these devices.
SELECT m.socket_session::uuid AS session_id FROM mailboxes m
WHERE m.bucket = @bucket AND m.device_id = ANY(@device_ids::uuid[]) AND m.socket_session IS NOT NULL;

-- name: DeleteMessages :many
-- Returns one row for every envelope that was there. The look-ups are written out, one by one along
-- the primary key: a table that empties and fills has statistics that lead the planner astray. The
-- caller holds the mailboxes' locks, so the places stay valid.
DELETE FROM messages x WHERE x.bucket = @bucket AND (x).ctid = ANY(ARRAY(
    SELECT place.ctid
    FROM (SELECT unnest(@device_ids::uuid[]) AS device_id, unnest(@seqs::bigint[]) AS seq) a
    CROSS JOIN LATERAL (
        SELECT m.ctid FROM messages m
        WHERE m.bucket = @bucket AND m.device_id = a.device_id AND m.seq = a.seq LIMIT 1
    ) place
))
RETURNING x.device_id, x.seq;

-- name: SettleMailboxes :exec
-- After envelopes have gone: an empty mailbox is read from its end.
UPDATE mailboxes m SET pending = m.pending - a.gone, acked_seq = greatest(m.acked_seq, a.acked_seq),
       floor_seq = CASE WHEN m.pending = a.gone THEN m.next_seq - 1 ELSE m.floor_seq END
FROM (SELECT unnest(@device_ids::uuid[]) AS device_id, unnest(@gone::integer[]) AS gone,
             unnest(@acked_seqs::bigint[]) AS acked_seq) a
WHERE m.bucket = @bucket AND m.device_id = a.device_id;

-- name: PendingSenders :many
-- Who holds full mailboxes: at most the cap and what is being added in each, oldest first.
SELECT m.device_id, m.seq, m.sender_id
FROM (SELECT unnest(@device_ids::uuid[]) AS device_id, unnest(@floor_seqs::bigint[]) AS floor_seq) b
JOIN messages m ON m.bucket = @bucket AND m.device_id = b.device_id AND m.seq > b.floor_seq
ORDER BY m.device_id, m.seq;

-- name: CountSkipped :many
-- Sockets have ended whose clients passed these envelopes over: one row for each that is still there. The
-- look-ups are those of DeleteMessages.
UPDATE messages x SET skipped = x.skipped + 1 WHERE x.bucket = @bucket AND (x).ctid = ANY(ARRAY(
    SELECT place.ctid
    FROM (SELECT unnest(@device_ids::uuid[]) AS device_id, unnest(@seqs::bigint[]) AS seq) a
    CROSS JOIN LATERAL (
        SELECT m.ctid FROM messages m
        WHERE m.bucket = @bucket AND m.device_id = a.device_id AND m.seq = a.seq LIMIT 1
    ) place
))
RETURNING x.device_id, x.seq, x.skipped;

-- name: DropExpired :many
-- The oldest expired envelopes of a mailbox.
DELETE FROM messages d WHERE d.bucket = @bucket AND d.device_id = @device_id AND d.seq IN (
    SELECT m.seq FROM messages m
    WHERE m.bucket = @bucket AND m.device_id = @device_id AND m.seq > @floor_seq AND m.accepted_at <= now() - @lifetime::interval
    ORDER BY m.seq LIMIT @max_rows::int)
RETURNING d.seq;

-- name: DropAll :many
DELETE FROM messages m WHERE m.bucket = @bucket AND m.device_id = @device_id RETURNING m.seq;

-- name: EraseMessages :exec
DELETE FROM messages m WHERE m.bucket = @bucket AND m.device_id = @device_id;

-- name: StaleMailboxes :many
-- One step of the sweeper's walk over the mailboxes: whether the oldest envelope of each has expired, its age in
-- seconds, and how many wait. Within a mailbox the order of sequences is the order of time.
SELECT p.device_id, p.pending, coalesce(o.expired, false)::boolean AS expired, coalesce(o.age, 0)::bigint AS age
FROM (
    SELECT x.device_id, x.floor_seq, x.pending FROM mailboxes x
    WHERE x.bucket = @bucket AND x.device_id > @after_device::uuid ORDER BY x.device_id LIMIT @max_rows::int
) p
LEFT JOIN LATERAL (
    SELECT m.accepted_at <= now() - @lifetime::interval AS expired, extract(epoch FROM now() - m.accepted_at) AS age
    FROM messages m
    WHERE p.pending > 0 AND m.bucket = @bucket AND m.device_id = p.device_id AND m.seq > p.floor_seq
    ORDER BY m.seq LIMIT 1
) o ON true
ORDER BY p.device_id;

-- name: GapsOf :many
-- For the account export.
SELECT g.from_seq, g.to_seq, g.reason FROM gaps g
WHERE g.bucket = @bucket AND g.device_id = @device_id ORDER BY g.from_seq;

-- name: NextGaps :many
-- The next gaps that reach above a sequence and begin at or below another.
SELECT g.from_seq, g.to_seq, g.reason FROM gaps g
WHERE g.bucket = @bucket AND g.device_id = @device_id AND g.to_seq > @after_seq AND g.from_seq <= @last_seq
  AND g.from_seq >= coalesce((SELECT b.from_seq FROM gaps b
                              WHERE b.bucket = @bucket AND b.device_id = @device_id AND b.from_seq <= @after_seq
                              ORDER BY b.from_seq DESC LIMIT 1), 0)
ORDER BY g.from_seq LIMIT @max_rows::int;

-- name: GapNeighbours :many
-- What is next to these ranges: the gap that begins last before each, and the one that begins behind
-- it; zeros for none. The look-ups are one by one, so they cost the same however many gaps there are.
SELECT a.device_id::uuid AS device_id, coalesce(l.from_seq, 0)::bigint AS before_from, coalesce(l.to_seq, 0)::bigint AS before_to,
       coalesce(l.reason, 0)::smallint AS before_reason, coalesce(r.from_seq, 0)::bigint AS after_from,
       coalesce(r.to_seq, 0)::bigint AS after_to, coalesce(r.reason, 0)::smallint AS after_reason
FROM (SELECT unnest(@device_ids::uuid[]) AS device_id, unnest(@from_seqs::bigint[]) AS from_seq,
             unnest(@to_seqs::bigint[]) AS to_seq) a
LEFT JOIN LATERAL (
    SELECT g.from_seq, g.to_seq, g.reason FROM gaps g
    WHERE g.bucket = @bucket AND g.device_id = a.device_id AND g.from_seq < a.from_seq ORDER BY g.from_seq DESC LIMIT 1
) l ON true
LEFT JOIN LATERAL (
    SELECT g.from_seq, g.to_seq, g.reason FROM gaps g
    WHERE g.bucket = @bucket AND g.device_id = a.device_id AND g.from_seq = a.to_seq + 1 LIMIT 1
) r ON true;

-- name: InsertGaps :exec
INSERT INTO gaps (bucket, device_id, from_seq, to_seq, reason)
SELECT @bucket::smallint, unnest(@device_ids::uuid[]), unnest(@from_seqs::bigint[]), unnest(@to_seqs::bigint[]), @reason;

-- name: ExtendGaps :exec
UPDATE gaps g SET to_seq = a.to_seq
FROM (SELECT unnest(@device_ids::uuid[]) AS device_id, unnest(@from_seqs::bigint[]) AS from_seq,
             unnest(@to_seqs::bigint[]) AS to_seq) a
WHERE g.bucket = @bucket AND g.device_id = a.device_id AND g.from_seq = a.from_seq;

-- name: ForgetGaps :exec
-- Gaps that were reported and followed by an acknowledgement. One that has grown since stays.
DELETE FROM gaps g
USING (SELECT unnest(@device_ids::uuid[]) AS device_id, unnest(@from_seqs::bigint[]) AS from_seq,
              unnest(@to_seqs::bigint[]) AS to_seq) a
WHERE g.bucket = @bucket AND g.device_id = a.device_id AND g.from_seq = a.from_seq AND g.to_seq = a.to_seq;

-- name: DeleteMailbox :execrows
DELETE FROM mailboxes m WHERE m.bucket = @bucket AND m.device_id = @device_id;

-- name: DeleteGaps :exec
DELETE FROM gaps g WHERE g.bucket = @bucket AND g.device_id = @device_id;

-- name: DeleteReceiptsOf :exec
DELETE FROM receipts r WHERE r.bucket = @bucket AND r.sender_device_id = @device_id;

-- name: MailboxSummary :one
-- For the account export.
SELECT m.next_seq, m.pending, m.acked_seq, m.generation,
       (SELECT count(*) FROM receipts r WHERE r.bucket = @bucket AND r.sender_device_id = m.device_id)::bigint AS receipts,
       (SELECT coalesce(sum(octet_length(x.body)), 0) FROM messages x
        WHERE x.bucket = @bucket AND x.device_id = m.device_id)::bigint AS pending_bytes
FROM mailboxes m WHERE m.bucket = @bucket AND m.device_id = @device_id;
