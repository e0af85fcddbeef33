package mailbox

import (
	"bytes"
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/gen/db"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/storage"
)

// receiptKey is the primary key of a receipt.
type receiptKey struct {
	device core.DeviceID
	key    uuid.UUID
}

// lockedMailbox is a mailbox whose row this transaction holds.
type lockedMailbox struct {
	next, floor int64
	pending     int32
	// added is what this transaction adds, dropped what it drops.
	added   []core.Envelope
	dropped []int64
}

// store works on a batch of requests. When it meets many full mailboxes, or a request that cannot
// be stored, it works on each half by itself: a poisoned request fails alone.
func (s *Service) store(ctx context.Context, requests []*sendRequest) ([]sendAnswer, error) {
	s.letAcknowledgementsPass()
	answers, err := s.storeOnce(ctx, requests)
	poisoned := err != nil && core.KindOf(err) == 0 // not the database's state: one request's content
	if !poisoned {
		return answers, err
	}
	if len(requests) == 1 {
		return []sendAnswer{{err: err}}, nil
	}
	half := len(requests) / 2
	answers = nil
	for _, part := range [][]*sendRequest{requests[:half], requests[half:]} {
		some, err := s.store(ctx, part)
		if err != nil { // the other part may be stored
			some = slices.Repeat([]sendAnswer{{err: err}}, len(part))
		}
		answers = append(answers, some...)
	}
	return answers, nil
}

// When acknowledgements pile up they go first, for a while: what they delete would otherwise fill
// mailboxes, and room would have to be made.
const (
	manyAcks    = 2048
	acksGoFirst = 100 * time.Millisecond
)

func (s *Service) letAcknowledgementsPass() {
	for deadline := time.After(acksGoFirst); ; {
		if waiting, _ := s.acks.len(); waiting <= manyAcks {
			return
		}
		select {
		case <-s.acked:
		case <-deadline:
			return
		}
	}
}

// storeOnce works on a batch in one transaction: either all of its new requests are stored or none
// is.
func (s *Service) storeOnce(ctx context.Context, requests []*sendRequest) ([]sendAnswer, error) {
	var answers []sendAnswer
	var done stored
	var boxes map[core.DeviceID]*lockedMailbox
	ctx, cancel := context.WithTimeout(ctx, s.txTime)
	defer cancel()
	err := s.db.InPipeline(ctx, func(tx db.DBTX) error {
		answers, done = make([]sendAnswer, len(requests)), stored{}
		var err error
		if boxes, err = lockMailboxes(ctx, tx, recipients(requests)); err != nil {
			return err
		}
		for i, r := range requests {
			answers[i].invalid = withoutBox(r, boxes)
		}
		if aroundMidnight(time.Now()) {
			if err := storage.Queries.SerialiseReceipts(ctx, tx, storage.LockReceipts); err != nil {
				return err
			}
		}
		fresh, now, err := insertReceipts(ctx, tx, requests, answers)
		if err != nil {
			return err
		}
		insert := db.InsertMessagesParams{AcceptedAt: now}
		for i, r := range requests {
			if fresh[i] {
				add(&insert, r, boxes)
			}
		}
		if len(insert.Seqs) > 0 {
			if err := storage.Queries.InsertMessages(ctx, tx, insert); err != nil {
				return err
			}
		}
		done.accepted = len(insert.Seqs)
		if err := makeRoom(ctx, tx, boxes, len(requests), &done); err != nil {
			return err
		}
		if err := advance(ctx, tx, boxes); err != nil {
			return err
		}
		return answerRepeats(ctx, tx, requests, fresh, answers)
	})
	if err != nil {
		return nil, err
	}
	s.counters.Accepted(done.accepted)
	if done.dropped > 0 {
		s.counters.Dropped(core.GapCap, done.dropped)
	}
	s.deliverLocal(boxes)
	return answers, nil
}

// stored is what a committed batch did.
type stored struct {
	accepted, dropped int
}

// recipients lists the devices of a batch in the order of their locks.
func recipients(requests []*sendRequest) []core.DeviceID {
	var devices []core.DeviceID
	for _, r := range requests {
		for i := range r.batch.Submissions {
			devices = append(devices, r.batch.Submissions[i].Device)
		}
	}
	return core.LockOrder(devices)
}

func withoutBox(r *sendRequest, boxes map[core.DeviceID]*lockedMailbox) []int16 {
	var invalid []int16
	for i := range r.batch.Submissions {
		if boxes[r.batch.Submissions[i].Device] == nil {
			invalid = append(invalid, int16(i))
		}
	}
	return invalid
}

// aroundMidnight reports that the day of a receipt may be in doubt between two nodes. It is
// generous: a node's clock may be off by minutes.
func aroundMidnight(now time.Time) bool {
	const doubt = 5 * time.Minute
	return now.Add(doubt).UTC().YearDay() != now.Add(-doubt).UTC().YearDay()
}

// insertReceipts writes the receipts of a batch and reports which requests are new, and what time
// it is. Two requests with one key in a batch: the first is new.
func insertReceipts(ctx context.Context, tx db.DBTX, requests []*sendRequest, answers []sendAnswer) (fresh []bool,
	now time.Time, err error) {
	arg := db.InsertReceiptsParams{}
	first := make(map[receiptKey]int, len(requests))
	for i, r := range requests {
		key := receiptKey{r.sender.Device, r.batch.Key}
		if _, twice := first[key]; twice {
			continue
		}
		first[key] = i
		arg.SenderDeviceIds = append(arg.SenderDeviceIds, key.device)
		arg.Keys = append(arg.Keys, key.key)
		arg.Digests = append(arg.Digests, r.batch.Digest[:])
		arg.Invalids = append(arg.Invalids,
			joinPositions(answers[i].invalid)) //nolint:gosec // an answer for each request
	}
	rows, err := storage.Queries.InsertReceipts(ctx, tx, arg)
	if err != nil {
		return nil, now, err
	}
	fresh = make([]bool, len(requests))
	for _, row := range rows {
		fresh[first[receiptKey{row.SenderDeviceID, row.Key}]] = true
		now = row.Now
	}
	return fresh, now, nil
}

func joinPositions(positions []int16) string {
	texts := make([]string, len(positions))
	for i, p := range positions {
		texts[i] = strconv.Itoa(int(p))
	}
	return strings.Join(texts, ",")
}

// add assigns sequences to the submissions of a request.
func add(insert *db.InsertMessagesParams, r *sendRequest, boxes map[core.DeviceID]*lockedMailbox) {
	for i := range r.batch.Submissions {
		sub := &r.batch.Submissions[i]
		b := boxes[sub.Device]
		if b == nil {
			continue
		}
		insert.DeviceIds = append(insert.DeviceIds, sub.Device)
		insert.Seqs = append(insert.Seqs, b.next)
		insert.SenderIds = append(insert.SenderIds, r.sender.User)
		insert.SenderDeviceIds = append(insert.SenderDeviceIds, r.sender.Device)
		insert.SenderNumbers = append(insert.SenderNumbers, int16(r.sender.DeviceNumber))
		insert.Bodies = append(insert.Bodies, sub.Message)
		b.added = append(b.added, core.Envelope{Sequence: b.next, Sender: r.sender.User, SenderDevice: r.sender.Device,
			SenderNumber: r.sender.DeviceNumber, AcceptedAt: insert.AcceptedAt, Message: sub.Message})
		b.next++
		b.pending++
	}
}

// advance writes the new state of the mailboxes.
func advance(ctx context.Context, tx db.DBTX, boxes map[core.DeviceID]*lockedMailbox) error {
	arg := db.AdvanceMailboxesParams{}
	for device, b := range boxes {
		if len(b.added) > 0 {
			arg.DeviceIds = append(arg.DeviceIds, device)
			arg.NextSeqs = append(arg.NextSeqs, b.next)
			arg.Pendings = append(arg.Pendings, b.pending)
		}
	}
	if len(arg.DeviceIds) == 0 {
		return nil
	}
	return storage.Queries.AdvanceMailboxes(ctx, tx, arg)
}

// deliverLocal gives what was committed to the sockets that are here, and announces the rest.
func (s *Service) deliverLocal(boxes map[core.DeviceID]*lockedMailbox) {
	elsewhere := core.Notice{Kind: core.NoticeMail}
	for device, b := range boxes {
		kept := b.added
		if len(b.dropped) > 0 {
			kept = slices.DeleteFunc(kept, func(e core.Envelope) bool { return slices.Contains(b.dropped, e.Sequence) })
		}
		if len(kept) > 0 && !s.sockets.Offer(device, kept) {
			elsewhere.IDs = append(elsewhere.IDs, device)
		}
	}
	if len(elsewhere.IDs) > 0 {
		s.sockets.Announce(elsewhere)
	}
}

// answerRepeats gives requests that were made before their first answer.
func answerRepeats(ctx context.Context, tx db.DBTX, requests []*sendRequest, fresh []bool, answers []sendAnswer) error {
	arg := db.ReceiptsByKeyParams{}
	for i, r := range requests {
		if !fresh[i] {
			arg.SenderDeviceIds = append(arg.SenderDeviceIds, r.sender.Device)
			arg.Keys = append(arg.Keys, r.batch.Key)
		}
	}
	if len(arg.Keys) == 0 {
		return nil
	}
	rows, err := storage.Queries.ReceiptsByKey(ctx, tx, arg)
	if err != nil {
		return err
	}
	receipts := make(map[receiptKey]db.ReceiptsByKeyRow, len(rows))
	for _, row := range rows {
		receipts[receiptKey{row.SenderDeviceID, row.Key}] = row
	}
	for i, r := range requests {
		if fresh[i] {
			continue
		}
		receipt, ok := receipts[receiptKey{r.sender.Device, r.batch.Key}]
		switch {
		case !ok: // swept in this instant
			answers[i] = sendAnswer{err: core.Busy(nil)}
		case !bytes.Equal(receipt.Digest, r.batch.Digest[:]):
			answers[i] = sendAnswer{err: ErrKeyReused}
		default:
			answers[i] = sendAnswer{invalid: receipt.Invalid}
		}
	}
	return nil
}
