package mailbox

import (
	"bytes"
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/gen/db"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/storage"
)

// pass is one transaction that stores requests in one bucket. Make it with newPass; store does the
// work and fills in the rest.
type pass struct {
	tx        *storage.Tx
	bucket    int16
	requests  []*sendRequest
	answers   []sendAnswer // of each request
	fresh     []bool       // of each request: it was not made before
	mailboxes map[core.DeviceID]*lockedMailbox
	// acceptedAt is of all envelopes that are accepted, accepted how many they are. dropped are how
	// many make room for them, outdated how many of them were encrypted before a takeover.
	acceptedAt                  time.Time
	accepted, dropped, outdated int
}

// lockedMailbox is a mailbox whose row this transaction holds.
type lockedMailbox struct {
	next, floor int64
	pending     int32
	// quietFrom to quietTo is the run of quiet envelopes at the end, if quietTo is next-1.
	quietFrom, quietTo int64
	// added is what this transaction adds, dropped what it drops.
	added   []core.Envelope
	dropped []int64
	// takeoverVersion is that of the user's devices since the device was taken over, outdated how
	// many envelopes this transaction counts that were encrypted before.
	takeoverVersion, outdated int64
}

// receiptKey is the primary key of a receipt. Of a sealed request both are made of its key and its
// tokens.
type receiptKey struct {
	device core.DeviceID
	key    uuid.UUID
}

func newPass(bucket int16, requests []*sendRequest) *pass {
	return &pass{bucket: bucket, requests: requests, answers: make([]sendAnswer, len(requests)),
		fresh: make([]bool, len(requests))}
}

// store does the whole work of a transaction.
func (p *pass) store(ctx context.Context, tx *storage.Tx) error {
	p.tx = tx
	for _, step := range [...]func(*pass, context.Context) error{(*pass).lock, (*pass).askAccountsHere,
		(*pass).sendBackLate, (*pass).findInvalid, (*pass).insertReceipts, (*pass).insertMessages,
		(*pass).makeRoom, (*pass).advance, (*pass).answerRepeats} {
		if err := step(p, ctx); err != nil {
			return err
		}
	}
	return nil
}

// askAccounts asks the tables of accounts what the requests depend on.
func (p *pass) askAccounts(ctx context.Context, conn *storage.Tx) error {
	if err := p.openAgain(ctx, conn); err != nil {
		return err
	}
	return p.checkAudiences(ctx, conn)
}

// askAccountsBefore asks them where that cannot be done while the mailboxes are locked.
func (p *pass) askAccountsBefore(ctx context.Context, conn *storage.Tx) error {
	if err := p.askAccounts(ctx, conn); err != nil {
		return err
	}
	return p.nameVersions(ctx, conn)
}

// askAccountsHere asks them while the mailboxes are locked, so that what is answered stays true:
// see CountDevicesChange. Where there are several buckets the tables of accounts may lie on another
// server, and were asked before: what changes meanwhile counts as later.
func (p *pass) askAccountsHere(ctx context.Context) error {
	if p.tx.Buckets > 1 {
		return nil
	}
	return p.askAccounts(ctx, p.tx)
}

// lock locks the mailboxes of a batch, but for those that a sealed request may not write to.
func (p *pass) lock(ctx context.Context) (err error) {
	var devices []core.DeviceID
	for _, r := range p.requests {
		for i := range r.batch.Submissions {
			if !r.claim && r.mayWrite(i) {
				devices = append(devices, r.batch.Submissions[i].Device)
			}
		}
	}
	p.mailboxes, err = lockMailboxes(ctx, p.tx, p.bucket, core.LockOrder(devices))
	return err
}

// findInvalid notes the submissions that cannot be stored: their device has no mailbox, or is not
// opened. Those of a claim have no mailbox here.
func (p *pass) findInvalid(context.Context) error {
	for n, r := range p.requests {
		for i := range r.batch.Submissions {
			missing := p.mailboxes[r.batch.Submissions[i].Device] == nil && !r.claim
			if missing || !r.mayWrite(i) {
				p.answers[n].invalid = append(p.answers[n].invalid, int16(i))
			}
		}
	}
	return nil
}

// lockMailboxes locks the mailboxes of these devices of a bucket, which must be in order. Devices
// without one are left out of the result.
func lockMailboxes(ctx context.Context, tx *storage.Tx, bucket int16,
	devices []core.DeviceID) (map[core.DeviceID]*lockedMailbox, error) {
	if len(devices) == 0 {
		return nil, nil
	}
	mailboxes := make(map[core.DeviceID]*lockedMailbox, len(devices))
	rows, err := storage.Queries.LockMailboxes(ctx, tx, db.LockMailboxesParams{Bucket: bucket, DeviceIds: devices})
	for _, row := range rows {
		mailboxes[row.DeviceID] = &lockedMailbox{next: row.NextSeq, floor: row.FloorSeq, pending: row.Pending,
			quietFrom: row.QuietFrom, quietTo: row.QuietTo, takeoverVersion: row.TakeoverVersion}
	}
	return mailboxes, err
}

// aroundMidnight reports that the day of a receipt may be in doubt between two nodes. It is
// generous: a node's clock may be off by minutes.
func aroundMidnight(now time.Time) bool {
	const doubt = 5 * time.Minute
	return now.Add(doubt).UTC().YearDay() != now.Add(-doubt).UTC().YearDay()
}

// insertReceipts writes the receipts of a batch and finds out which requests are new, and what time
// it is. Two requests with one key in a batch: the first is new.
func (p *pass) insertReceipts(ctx context.Context) error {
	if aroundMidnight(time.Now()) {
		if err := storage.Queries.SerialiseReceipts(ctx, p.tx, storage.LockReceipts); err != nil {
			return err
		}
	}
	arg := db.InsertReceiptsParams{Bucket: p.bucket}
	first := make(map[receiptKey]int, len(p.requests))
	for i, r := range p.requests {
		if _, twice := first[r.receipt]; twice || p.storesNothing(i) {
			continue
		}
		first[r.receipt] = i
		arg.SenderDeviceIds = append(arg.SenderDeviceIds, r.receipt.device)
		arg.Keys = append(arg.Keys, r.receipt.key)
		arg.Digests = append(arg.Digests, r.batch.Digest[:])
		arg.Invalids = append(arg.Invalids, joinPositions(p.answers[i].invalid))
		arg.Claims = append(arg.Claims, r.claim)
	}
	if len(first) == 0 {
		return nil
	}
	rows, err := storage.Queries.InsertReceipts(ctx, p.tx, arg)
	for _, row := range rows {
		i := first[receiptKey{row.SenderDeviceID, row.Key}]
		p.fresh[i], p.answers[i].claimed = true, p.requests[i].claim
		p.acceptedAt = row.Now
	}
	return err
}

// storesNothing reports a request that leaves no trace, if it was not made before: its key may be
// used again. The key of a part is claimed already.
func (p *pass) storesNothing(i int) bool {
	r, answer := p.requests[i], &p.answers[i]
	refused := r.sealed() && r.positions == nil && len(answer.invalid) == len(r.batch.Submissions)
	return answer.changed != nil || answer.err != nil || refused
}

func joinPositions(positions []int16) string {
	texts := make([]string, len(positions))
	for i, p := range positions {
		texts[i] = strconv.Itoa(int(p))
	}
	return strings.Join(texts, ",")
}

// insertMessages assigns sequences to the submissions of the new requests and writes them. What was
// encrypted before its device was taken over counts as sent before, and dropped by the takeover.
func (p *pass) insertMessages(ctx context.Context) error {
	insert := db.InsertMessagesParams{Bucket: p.bucket, AcceptedAt: p.acceptedAt}
	outdated := envelopes{Bucket: p.bucket}
	for n, r := range p.requests {
		for i := range r.batch.Submissions {
			sub := &r.batch.Submissions[i]
			m := p.mailboxes[sub.Device]
			if m == nil || !p.fresh[n] || r.claim || !r.mayWrite(i) {
				continue
			}
			if p.accepted++; 0 < sub.version && sub.version < m.takeoverVersion {
				outdated.add(sub.Device, []int64{m.next})
				m.next++
				m.outdated++
				continue
			}
			sender := r.sender.User
			if r.sealed() {
				sender = tokenName(sub.Token)
			}
			insert.DeviceIds, insert.Seqs = append(insert.DeviceIds, sub.Device), append(insert.Seqs, m.next)
			insert.SenderIds = append(insert.SenderIds, sender)
			insert.SenderDeviceIds = append(insert.SenderDeviceIds, r.sender.Device)
			insert.SenderNumbers = append(insert.SenderNumbers, int16(r.sender.DeviceNumber))
			message := sub.ciphertext()
			insert.Bodies = append(insert.Bodies, message)
			m.added = append(m.added, core.Envelope{Sequence: m.next, Sender: r.sender.User,
				SenderDevice: r.sender.Device, SenderNumber: r.sender.DeviceNumber, AcceptedAt: p.acceptedAt,
				Message: message})
			if sub.Quiet {
				m.addQuiet()
			}
			m.next++
			m.pending++
		}
	}
	if len(outdated.Seqs) > 0 {
		p.outdated = len(outdated.Seqs)
		if err := recordGaps(ctx, p.tx, outdated, core.GapTakeover); err != nil {
			return err
		}
	}
	if len(insert.Seqs) == 0 {
		return nil
	}
	return storage.Queries.InsertMessages(ctx, p.tx, insert)
}

// addQuiet makes the next envelope part of the quiet run at the end, or the first of a new one.
func (m *lockedMailbox) addQuiet() {
	if m.quietTo == 0 || m.quietTo != m.next-1 {
		m.quietFrom = m.next
	}
	m.quietTo = m.next
}

// advance writes the new state of the mailboxes.
func (p *pass) advance(ctx context.Context) error {
	arg := db.AdvanceMailboxesParams{Bucket: p.bucket}
	for device, m := range p.mailboxes {
		if len(m.added) > 0 || m.outdated > 0 {
			arg.DeviceIds = append(arg.DeviceIds, device)
			arg.NextSeqs, arg.Pendings = append(arg.NextSeqs, m.next), append(arg.Pendings, m.pending)
			arg.QuietFroms, arg.QuietTos = append(arg.QuietFroms, m.quietFrom), append(arg.QuietTos, m.quietTo)
		}
	}
	if p.accepted == 0 {
		return nil
	}
	return storage.Queries.AdvanceMailboxes(ctx, p.tx, arg)
}

// answerRepeats gives requests that were made before their first answer.
func (p *pass) answerRepeats(ctx context.Context) error {
	arg := db.ReceiptsByKeyParams{Bucket: p.bucket}
	for i, r := range p.requests {
		if !p.fresh[i] {
			arg.SenderDeviceIds = append(arg.SenderDeviceIds, r.receipt.device)
			arg.Keys = append(arg.Keys, r.receipt.key)
		}
	}
	if len(arg.Keys) == 0 {
		return nil
	}
	rows, err := storage.Queries.ReceiptsByKey(ctx, p.tx, arg)
	if err != nil {
		return err
	}
	receipts := make(map[receiptKey]*db.ReceiptsByKeyRow, len(rows))
	for i := range rows {
		receipts[receiptKey{rows[i].SenderDeviceID, rows[i].Key}] = &rows[i]
	}
	for i, r := range p.requests {
		if p.fresh[i] {
			continue
		}
		switch receipt := receipts[r.receipt]; {
		case receipt == nil && p.storesNothing(i): // and has not stored anything before
		case receipt == nil: // swept in this instant
			p.answers[i] = sendAnswer{err: core.Busy(nil)}
		case !bytes.Equal(receipt.Digest, r.batch.Digest[:]):
			p.answers[i] = sendAnswer{err: errKeyReused}
		default:
			p.answers[i] = sendAnswer{invalid: receipt.Invalid, claimed: receipt.Claim}
		}
	}
	return nil
}
