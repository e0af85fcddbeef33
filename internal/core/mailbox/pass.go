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

// pass is one transaction that stores a batch: it has tx and requests, and store finds the rest.
type pass struct {
	tx        *storage.Tx
	requests  []*sendRequest
	answers   []sendAnswer // of each request
	fresh     []bool       // of each request: it was not made before
	mailboxes map[core.DeviceID]*lockedMailbox
	// acceptedAt is of all envelopes that are stored, accepted how many they are, dropped how many
	// make room for them.
	acceptedAt        time.Time
	accepted, dropped int
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
}

// receiptKey is the primary key of a receipt. Of a sealed request both are made of its key and its
// tokens.
type receiptKey struct {
	device core.DeviceID
	key    uuid.UUID
}

// store does the whole work of a transaction.
func (p *pass) store(ctx context.Context) error {
	p.answers, p.fresh = make([]sendAnswer, len(p.requests)), make([]bool, len(p.requests))
	for _, step := range [...]func(*pass, context.Context) error{(*pass).lock, (*pass).openAgain,
		(*pass).findInvalid, (*pass).checkAudiences, (*pass).insertReceipts, (*pass).insertMessages,
		(*pass).makeRoom, (*pass).advance, (*pass).answerRepeats} {
		if err := step(p, ctx); err != nil {
			return err
		}
	}
	return nil
}

// lock locks the mailboxes of a batch, but for those that a sealed request may not write to.
func (p *pass) lock(ctx context.Context) (err error) {
	var devices []core.DeviceID
	for _, r := range p.requests {
		for i := range r.batch.Submissions {
			if r.mayWrite(i) {
				devices = append(devices, r.batch.Submissions[i].Device)
			}
		}
	}
	p.mailboxes, err = lockMailboxes(ctx, p.tx, core.LockOrder(devices))
	return err
}

// findInvalid notes the submissions that cannot be stored: their device has no mailbox, or is not
// opened.
func (p *pass) findInvalid(context.Context) error {
	for n, r := range p.requests {
		for i := range r.batch.Submissions {
			if p.mailboxes[r.batch.Submissions[i].Device] == nil || !r.mayWrite(i) {
				p.answers[n].invalid = append(p.answers[n].invalid, int16(i))
			}
		}
	}
	return nil
}

// lockMailboxes locks the mailboxes of these devices, which must be in order. Devices without one
// are left out of the result.
func lockMailboxes(ctx context.Context, tx *storage.Tx,
	devices []core.DeviceID) (map[core.DeviceID]*lockedMailbox, error) {
	if len(devices) == 0 {
		return nil, nil
	}
	mailboxes := make(map[core.DeviceID]*lockedMailbox, len(devices))
	for bucket, some := range tx.Divide(devices) {
		rows, err := storage.Queries.LockMailboxes(ctx, tx, db.LockMailboxesParams{Bucket: bucket, DeviceIds: some})
		if err != nil {
			return nil, err
		}
		for _, row := range rows {
			mailboxes[row.DeviceID] = &lockedMailbox{next: row.NextSeq, floor: row.FloorSeq, pending: row.Pending,
				quietFrom: row.QuietFrom, quietTo: row.QuietTo}
		}
	}
	return mailboxes, nil
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
	all := storage.Divided[db.InsertReceiptsParams]{}
	first := make(map[receiptKey]int, len(p.requests))
	for i, r := range p.requests {
		if _, twice := first[r.receipt]; twice || p.storesNothing(i) {
			continue
		}
		first[r.receipt] = i
		arg := all.In(p.tx.Bucket(r.receipt.device))
		arg.SenderDeviceIds = append(arg.SenderDeviceIds, r.receipt.device)
		arg.Keys = append(arg.Keys, r.receipt.key)
		arg.Digests = append(arg.Digests, r.batch.Digest[:])
		arg.Invalids = append(arg.Invalids, joinPositions(p.answers[i].invalid))
	}
	for bucket, arg := range all.All() {
		arg.Bucket = bucket
		rows, err := storage.Queries.InsertReceipts(ctx, p.tx, *arg)
		if err != nil {
			return err
		}
		for _, row := range rows {
			p.fresh[first[receiptKey{row.SenderDeviceID, row.Key}]] = true
			p.acceptedAt = row.Now
		}
	}
	return nil
}

// storesNothing reports a request that leaves no trace, if it was not made before: its key may be
// used again.
func (p *pass) storesNothing(i int) bool {
	r := p.requests[i]
	return p.answers[i].changed != nil || r.sealed() && len(p.answers[i].invalid) == len(r.batch.Submissions)
}

func joinPositions(positions []int16) string {
	texts := make([]string, len(positions))
	for i, p := range positions {
		texts[i] = strconv.Itoa(int(p))
	}
	return strings.Join(texts, ",")
}

// insertMessages assigns sequences to the submissions of the new requests and writes them.
func (p *pass) insertMessages(ctx context.Context) error {
	all := storage.Divided[db.InsertMessagesParams]{}
	for n, r := range p.requests {
		for i := range r.batch.Submissions {
			sub := &r.batch.Submissions[i]
			m := p.mailboxes[sub.Device]
			if m == nil || !p.fresh[n] || !r.mayWrite(i) {
				continue
			}
			sender := r.sender.User
			if r.sealed() {
				sender = tokenName(sub.Token)
			}
			insert := all.In(p.tx.Bucket(sub.Device))
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
			p.accepted++
		}
	}
	for bucket, insert := range all.All() {
		insert.Bucket, insert.AcceptedAt = bucket, p.acceptedAt
		if err := storage.Queries.InsertMessages(ctx, p.tx, *insert); err != nil {
			return err
		}
	}
	return nil
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
	all := storage.Divided[db.AdvanceMailboxesParams]{}
	for device, m := range p.mailboxes {
		if len(m.added) > 0 {
			arg := all.In(p.tx.Bucket(device))
			arg.DeviceIds = append(arg.DeviceIds, device)
			arg.NextSeqs, arg.Pendings = append(arg.NextSeqs, m.next), append(arg.Pendings, m.pending)
			arg.QuietFroms, arg.QuietTos = append(arg.QuietFroms, m.quietFrom), append(arg.QuietTos, m.quietTo)
		}
	}
	for bucket, arg := range all.All() {
		arg.Bucket = bucket
		if err := storage.Queries.AdvanceMailboxes(ctx, p.tx, *arg); err != nil {
			return err
		}
	}
	return nil
}

// answerRepeats gives requests that were made before their first answer.
func (p *pass) answerRepeats(ctx context.Context) error {
	all := storage.Divided[db.ReceiptsByKeyParams]{}
	for i, r := range p.requests {
		if !p.fresh[i] {
			arg := all.In(p.tx.Bucket(r.receipt.device))
			arg.SenderDeviceIds = append(arg.SenderDeviceIds, r.receipt.device)
			arg.Keys = append(arg.Keys, r.receipt.key)
		}
	}
	receipts := map[receiptKey]*db.ReceiptsByKeyRow{}
	for bucket, arg := range all.All() {
		arg.Bucket = bucket
		rows, err := storage.Queries.ReceiptsByKey(ctx, p.tx, *arg)
		if err != nil {
			return err
		}
		for i := range rows {
			receipts[receiptKey{rows[i].SenderDeviceID, rows[i].Key}] = &rows[i]
		}
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
			p.answers[i] = sendAnswer{err: ErrKeyReused}
		default:
			p.answers[i] = sendAnswer{invalid: receipt.Invalid}
		}
	}
	return nil
}
