package mailbox

import (
	"context"
	"crypto/sha256"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/internal/core"
)

// Submission is one envelope for one device, checked for its form.
type Submission struct {
	Device core.DeviceID
	// Prefix and Message are the ciphertext, 1 byte to core.MaxMessage together. Submissions may
	// share a message: it is joined with the prefix only when it is stored, so that what waits
	// takes no more memory than what came. Both are kept until then: they must not point into a
	// buffer that is used again.
	Prefix, Message []byte
	// Token is shown in place of a sender, in a sealed batch.
	Token core.DeliveryTokenHash
	// Quiet: nobody is woken up for it.
	Quiet bool
	// version is that of its user's devices for which it was encrypted, if an audience says so and
	// there are several buckets.
	version int64
}

func (s *Submission) size() int { return len(s.Prefix) + len(s.Message) }

// ciphertext is prefix and message in one.
func (s *Submission) ciphertext() []byte {
	if len(s.Prefix) == 0 {
		return s.Message
	}
	return slices.Concat(s.Prefix, s.Message)
}

// Batch is one request to send.
type Batch struct {
	// Key names the batch among those of the sending device, or among the sealed ones that show the
	// same delivery tokens.
	Key uuid.UUID
	// Digest is SHA-256 of the request's body.
	Digest [sha256.Size]byte
	// Submissions are those whose form is right; there may be none.
	Submissions []Submission
	// Audiences are the users whose devices the sender means to reach.
	Audiences []Audience
}

// submissionWeight is what a submission costs beside its ciphertext: memory while it waits, a
// mailbox to lock and a row. A shared message counts for each: that is what a batch joins.
const submissionWeight = 512

func (b *Batch) weight() int {
	weight := submissionWeight*len(b.Submissions) + audienceWeight*len(b.Audiences)
	for i := range b.Submissions {
		weight += b.Submissions[i].size()
	}
	return weight
}

// errKeyReused says that an idempotency key came with another body before.
var errKeyReused = core.NewError(core.Conflict, "idempotency_key_reused",
	"This idempotency key was used for a different request.")

type sendRequest struct {
	sender  core.Principal // nobody in a sealed request
	batch   Batch
	receipt receiptKey
	// claim: only the receipt is written, as that of a batch that is stored in parts.
	claim bool
	// positions are, in a part, those of its submissions in the whole batch; nil in a whole batch.
	positions []int16
	// Of a sealed request: which submissions their tokens open, which audiences it may hear of, and
	// since when that is known.
	opened    []bool
	audiences map[core.UserID]bool
	openedAt  time.Time
}

// sendAnswer lists the positions of submissions whose device has no mailbox, or the audiences that
// have changed.
type sendAnswer struct {
	invalid []int16
	changed []DeviceList
	claimed bool  // the batch is stored in parts
	err     error // of this request alone
}

// Send stores a batch durably, exactly once, and returns the positions of the submissions that name
// no device. Returns *ChangedError when an audience has other devices (its key may be used again),
// errKeyReused, or core.Unavailable when too much waits or the database is unavailable; then the
// batch may have been stored nevertheless, and the same batch sent again gets the first answer.
func (s *Service) Send(ctx context.Context, sender core.Principal, b Batch) (invalid []int16, err error) {
	var answer sendAnswer
	if err = s.markSender(ctx, sender.Device); err == nil {
		r := &sendRequest{sender: sender, batch: b, receipt: receiptKey{sender.Device, b.Key}}
		answer, err = s.put(ctx, r, b.weight())
	}
	return answered(answer, err)
}

func answered(answer sendAnswer, err error) (invalid []int16, _ error) {
	if err != nil {
		return nil, err
	}
	if answer.changed != nil {
		return answer.invalid, &ChangedError{answer.changed}
	}
	return answer.invalid, answer.err
}
