package mailbox

import (
	"bytes"
	"context"
	"crypto/sha256"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/gen/db"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/storage"
)

// A sealed request does not say who makes it: each of its submissions shows a delivery token of its
// device's user. Tokens are looked up in the transaction that stores.

// sealed reports that nobody knows who makes the request.
func (r *sendRequest) sealed() bool { return r.sender.Device == uuid.Nil }

// opening is a token and the device that it is to open.
type opening struct {
	token  core.DeliveryTokenHash
	device core.DeviceID
}

// tokenRevocation is how long a token may be used after it was looked up: half of the second within
// which a removed one stops working.
const tokenRevocation = time.Second / 2

// open finds out which devices the tokens of a batch open.
func (p *pass) open(ctx context.Context) error {
	arg := db.OpenedDevicesParams{}
	asked := map[opening]bool{}
	for _, r := range p.requests {
		for i := range r.batch.Submissions {
			sub := &r.batch.Submissions[i]
			if pair := (opening{sub.Token, sub.Device}); r.sealed() && !asked[pair] {
				asked[pair] = true
				arg.Hashes, arg.DeviceIds = append(arg.Hashes, sub.Token[:]), append(arg.DeviceIds, sub.Device)
			}
		}
	}
	if len(asked) == 0 {
		return nil
	}
	p.openedAt, p.opened = time.Now(), asked
	clear(asked)
	rows, err := storage.Queries.OpenedDevices(ctx, p.tx, arg)
	for _, row := range rows {
		p.opened[opening{core.DeliveryTokenHash(row.Hash), row.DeviceID}] = true
	}
	return err
}

// openAgain looks again when the locks of the mailboxes were long in coming.
func (p *pass) openAgain(ctx context.Context) error {
	if p.opened == nil || time.Since(p.openedAt) < tokenRevocation {
		return nil
	}
	return p.open(ctx)
}

// opens reports whether a request may write to the device of its submission.
func (p *pass) opens(r *sendRequest, sub *Submission) bool {
	return !r.sealed() || p.opened[opening{sub.Token, sub.Device}]
}

// openUsers finds out which audiences the tokens of sealed requests open.
func (p *pass) openUsers(ctx context.Context) error {
	arg := db.OpenedUsersParams{}
	shown := map[*sendRequest]map[core.DeliveryTokenHash]bool{}
	for _, r := range p.requests {
		if !r.sealed() || len(r.batch.Audiences) == 0 {
			continue
		}
		for _, a := range r.batch.Audiences {
			arg.UserIds = append(arg.UserIds, a.User)
		}
		shown[r] = map[core.DeliveryTokenHash]bool{}
		for i := range r.batch.Submissions {
			token := r.batch.Submissions[i].Token
			shown[r][token] = true
			arg.Hashes = append(arg.Hashes, token[:])
		}
	}
	if len(arg.Hashes) == 0 {
		return nil
	}
	rows, err := storage.Queries.OpenedUsers(ctx, p.tx, arg)
	p.askable = map[asking]bool{}
	for r, tokens := range shown {
		for _, row := range rows {
			if tokens[core.DeliveryTokenHash(row.Hash)] {
				p.askable[asking{r, row.UserID}] = true
			}
		}
	}
	return err
}

// asking is a sealed request and a user it asks about.
type asking struct {
	request *sendRequest
	user    core.UserID
}

// mayAsk reports whether a request may hear of a user's devices.
func (p *pass) mayAsk(r *sendRequest, user core.UserID) bool {
	return !r.sealed() || p.askable[asking{r, user}]
}

// tokenName is what stands for the sender in a sealed envelope: each token is one sender to the
// fair cap. It is a version 8 UUID (RFC 9562), which no user has.
func tokenName(token core.DeliveryTokenHash) uuid.UUID { return hashed(token[:16]) }

func hashed(sum []byte) uuid.UUID {
	id := uuid.UUID(sum)
	id[6], id[8] = 0x80|id[6]&0x0f, 0x80|id[8]&0x3f
	return id
}

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
	return receiptKey{hashed(sum[:16]), hashed(sum[16:])}
}
