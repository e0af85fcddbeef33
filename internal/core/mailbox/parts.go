package mailbox

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"sync"

	"github.com/obscura-relay/obscura/internal/core"
)

// A transaction touches one bucket. So a batch is stored in parts unless all its devices are in the
// bucket of its receipt, as they are when there is one bucket. Its receipt is written first and
// claims the key: it decides whether the batch is stored, and refuses another body under the key
// wherever that goes. Then each part is stored with a receipt of its own. When some cannot be, the
// sender hears that it has to repeat the batch, and the repetition stores those and no other.

// put stores a request, which weighs so much, and returns its answer.
func (s *Service) put(ctx context.Context, r *sendRequest, weight int) (sendAnswer, error) {
	home := s.of(r.receipt.device)
	elsewhere := func(sub Submission) bool { return s.of(sub.Device) != home }
	if slices.ContainsFunc(r.batch.Submissions, elsewhere) {
		claim := *r
		claim.claim = true
		r, weight = &claim, submissionWeight+audienceWeight*len(r.batch.Audiences)
	}
	answer, err := home.sends.Do(ctx, r, weight)
	if err != nil || !answer.claimed {
		return answer, err
	}
	return s.putParts(ctx, r)
}

// putParts stores what the parts of a claimed request lack, all at once.
func (s *Service) putParts(ctx context.Context, r *sendRequest) (sendAnswer, error) {
	parts := s.divide(r)
	answers, errs := make([]sendAnswer, len(parts)), make([]error, len(parts))
	var wg sync.WaitGroup
	for i, part := range parts {
		wg.Go(func() {
			answers[i], errs[i] = s.of(part.receipt.device).sends.Do(ctx, part, part.batch.weight())
		})
	}
	wg.Wait()
	whole := sendAnswer{}
	for i, part := range parts {
		if errs[i] != nil || answers[i].err != nil {
			return answers[i], errs[i]
		}
		for _, k := range answers[i].invalid {
			whole.invalid = append(whole.invalid, part.positions[k])
		}
	}
	slices.Sort(whole.invalid)
	return whole, nil
}

// divide makes a request's parts, one for each bucket that it has submissions in.
func (s *Service) divide(r *sendRequest) (parts []*sendRequest) {
	in := make([]*sendRequest, len(s.buckets))
	for i := range r.batch.Submissions {
		sub := r.batch.Submissions[i]
		bucket := s.of(sub.Device).number
		part := in[bucket]
		if part == nil {
			part = &sendRequest{sender: r.sender, receipt: r.part(bucket), openedAt: r.openedAt}
			part.batch.Digest = r.batch.Digest
			in[bucket] = part
			parts = append(parts, part)
		}
		part.batch.Submissions = append(part.batch.Submissions, sub)
		part.positions = append(part.positions, int16(i))
		if r.sealed() {
			part.opened = append(part.opened, r.opened[i])
		}
	}
	return parts
}

// part names the receipt of a part. It lies in the part's bucket, and says whose it is only beside
// the claim: the name is a hash of what stands there. It outlives the claim by a day at most; then
// the key may come with another body, which names others.
func (r *sendRequest) part(bucket int16) receiptKey {
	h := sha256.New()
	h.Write(r.receipt.device[:])
	h.Write(r.receipt.key[:])
	h.Write(r.batch.Digest[:])
	sum := h.Sum(nil)
	device := core.HashID(sum)
	binary.BigEndian.PutUint16(device[:], uint16(bucket)) //nolint:gosec // from 0 on
	return receiptKey{device, core.HashID(sum[16:])}
}
