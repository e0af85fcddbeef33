package mailbox

import (
	"bytes"
	"context"
	"crypto/sha256"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/gen/db"
	"github.com/obscura-relay/obscura/internal/batch"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/storage"
)

// A sealed request does not say who makes it: each of its submissions shows a delivery token of its
// device's user. Tokens are looked up for many requests at once, before their requests wait to be
// stored: what is refused takes no room there and locks no mailbox.

// SendSealed stores a batch of which it does not know the sender, as Send does. The positions are
// those of the submissions whose device does not exist or is not opened by their token. An audience
// is taken for a user who does not exist unless a token of the batch opens it.
func (s *Service) SendSealed(ctx context.Context, b Batch) (refused []int16, err error) {
	r := &sendRequest{batch: b, receipt: b.sealedReceipt()}
	answer := sendAnswer{}
	if _, err = s.openings.Do(ctx, r, len(b.Submissions)+len(b.Audiences)+1); err == nil {
		// Also when nothing is opened: it may have been stored before.
		answer, err = s.storeSealed(ctx, r)
	}
	return answered(answer, err)
}

// maxSealed is how much of the queue sealed requests take, by what they weigh: a flood of them,
// which nobody can be blamed for, leaves the rest to those with a name.
const maxSealed = 8 << 20

func (s *Service) storeSealed(ctx context.Context, r *sendRequest) (sendAnswer, error) {
	weight := r.keepOpened()
	defer s.sealed.Add(-int64(weight))
	if s.sealed.Add(int64(weight)) > maxSealed {
		return sendAnswer{}, core.Busy(batch.ErrFull)
	}
	return s.put(ctx, r, weight)
}

// sealed reports that nobody knows who makes the request.
func (r *sendRequest) sealed() bool { return r.sender.Device == uuid.Nil }

// opening is a token and the device that it is to open.
type opening struct {
	token  core.DeliveryTokenHash
	device core.DeviceID
}

// openingLimits: a batch looks up some 8192 tokens.
var openingLimits = batch.Limits{BatchItems: 512, BatchWeight: 8192, QueueItems: 8192, QueueWeight: 1 << 17}

// tokenRevocation is how long a token may be used after it was looked up: half of the second within
// which a removed one stops working.
const tokenRevocation = time.Second / 2

// open looks up what the tokens of sealed requests open.
func (s *Service) open(ctx context.Context, requests []*sendRequest) ([]struct{}, error) {
	ctx, cancel := context.WithTimeout(ctx, s.txTime)
	defer cancel()
	err := s.cfg.DB.Do(ctx, func(conn *storage.Tx) error { return lookUp(ctx, conn, requests) })
	return make([]struct{}, len(requests)), err
}

// lookedUpLong reports that a token of the request may have been removed for so long that it must
// not be used.
func (r *sendRequest) lookedUpLong() bool {
	return r.sealed() && time.Since(r.openedAt) > tokenRevocation
}

// openAgain looks again when a request has waited for its turn or for locks of mailboxes.
func (p *pass) openAgain(ctx context.Context, conn *storage.Tx) error {
	var old []*sendRequest
	for _, r := range p.requests {
		if r.lookedUpLong() {
			old = append(old, r)
		}
	}
	if len(old) == 0 {
		return nil
	}
	return lookUp(ctx, conn, old)
}

// sendBackLate sends those back that have waited for locks for so long that their tokens would have
// to be looked up again, where that cannot be done while the locks are held.
func (p *pass) sendBackLate(context.Context) error {
	if p.tx.Buckets == 1 { // it was done
		return nil
	}
	for i, r := range p.requests {
		if r.lookedUpLong() {
			p.answers[i].err = core.Busy(nil)
		}
	}
	return nil
}

// lookUp notes which submissions their tokens open, and which audiences may be told of.
func lookUp(ctx context.Context, conn *storage.Tx, requests []*sendRequest) error {
	now := time.Now()
	devices, users := db.OpenedDevicesParams{}, db.OpenedUsersParams{}
	asked, opened := map[opening]bool{}, map[opening]bool{}
	for _, r := range requests {
		for i := range r.batch.Submissions {
			sub := &r.batch.Submissions[i]
			pair := opening{sub.Token, sub.Device}
			if len(r.batch.Audiences) > 0 {
				users.Hashes = append(users.Hashes, sub.Token[:])
			}
			if !asked[pair] {
				asked[pair] = true
				devices.Hashes = append(devices.Hashes, sub.Token[:])
				devices.DeviceIds = append(devices.DeviceIds, sub.Device)
			}
		}
		for _, a := range r.batch.Audiences {
			users.UserIds = append(users.UserIds, a.User)
		}
	}
	rows, err := storage.Queries.OpenedDevices(ctx, conn, devices)
	if err != nil {
		return err
	}
	for _, row := range rows {
		opened[opening{core.DeliveryTokenHash(row.Hash), row.DeviceID}] = true
	}
	owners := map[core.DeliveryTokenHash][]core.UserID{}
	if len(users.UserIds) > 0 {
		rows, err := storage.Queries.OpenedUsers(ctx, conn, users)
		if err != nil {
			return err
		}
		for _, row := range rows {
			hash := core.DeliveryTokenHash(row.Hash)
			owners[hash] = append(owners[hash], row.UserID)
		}
	}
	for _, r := range requests {
		before := r.opened // what was not opened then has no ciphertext any more, and no lock
		r.openedAt, r.opened, r.audiences = now, make([]bool, len(r.batch.Submissions)), map[core.UserID]bool{}
		for i := range r.batch.Submissions {
			sub := &r.batch.Submissions[i]
			r.opened[i] = opened[opening{sub.Token, sub.Device}] && (before == nil || before[i])
			for _, user := range owners[sub.Token] {
				r.audiences[user] = true
			}
		}
	}
	return nil
}

// keepOpened forgets the ciphertext that will not be stored, and returns what the rest weighs.
func (r *sendRequest) keepOpened() int {
	weight := audienceWeight * len(r.batch.Audiences)
	for i := range r.batch.Submissions {
		if sub := &r.batch.Submissions[i]; r.opened[i] {
			weight += submissionWeight + sub.size()
		} else {
			sub.Prefix, sub.Message = nil, nil
		}
	}
	return weight
}

// mayWrite reports whether a request may write to the device of a submission.
func (r *sendRequest) mayWrite(i int) bool { return !r.sealed() || r.opened[i] }

// mayAsk reports whether a request may hear of a user's devices.
func (r *sendRequest) mayAsk(user core.UserID) bool { return !r.sealed() || r.audiences[user] }

// tokenName is what stands for the sender in a sealed envelope: each token is one sender to the
// fair cap. No user has it: see core.HashID.
func tokenName(token core.DeliveryTokenHash) uuid.UUID { return core.HashID(token[:]) }

// sealedReceipt names a sealed batch by its key and its tokens: whoever does not have both can
// neither find out whether it was sent, nor get in its way.
func (b *Batch) sealedReceipt() receiptKey {
	tokens := make([]core.DeliveryTokenHash, len(b.Submissions))
	for i := range b.Submissions {
		tokens[i] = b.Submissions[i].Token
	}
	slices.SortFunc(tokens, func(a, b core.DeliveryTokenHash) int { return bytes.Compare(a[:], b[:]) })
	h := sha256.New()
	h.Write(b.Key[:])
	for _, token := range slices.Compact(tokens) {
		h.Write(token[:])
	}
	sum := h.Sum(nil)
	return receiptKey{core.HashID(sum), core.HashID(sum[16:])}
}
