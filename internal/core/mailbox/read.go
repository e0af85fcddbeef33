package mailbox

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/obscura-relay/obscura/gen/db"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/storage"
)

// How much one read brings: at most 64 envelopes, and after 128 KiB only the one that crosses it.
// So a reader holds at most 384 KiB of ciphertext.
const (
	pageRows  = 64
	pageBytes = 128 << 10
)

// Page is what one read brings.
type Page struct {
	Envelopes []core.Envelope
	// More says that there may be more above the last envelope.
	More bool
}

// Read returns the next pending envelopes of a device above a sequence, in order. Expired ones are
// dropped and not returned.
func (s *Service) Read(ctx context.Context, device core.DeviceID, after int64) (Page, error) {
	rows, err := s.page(ctx, device, after)
	if err != nil {
		return Page{}, err
	}
	for i := range rows {
		if rows[i].Expired {
			if err := s.Expire(ctx, device); err != nil {
				return Page{}, err
			}
			rows, err = s.page(ctx, device, after)
			break
		}
	}
	page := Page{Envelopes: make([]core.Envelope, 0, len(rows)), More: len(rows) == pageRows}
	size := 0
	for i := range rows {
		row := &rows[i]
		if row.Expired { // in the instant since; the next read drops it
			page.More = true
			break
		}
		size += len(row.Body)
		envelope := core.Envelope{Sequence: row.Seq, AcceptedAt: row.AcceptedAt, Message: row.Body}
		if row.SenderNumber > 0 { // else it is sealed
			envelope.Sender, envelope.SenderDevice = row.SenderID, row.SenderDeviceID
			envelope.SenderNumber = uint8(row.SenderNumber) //nolint:gosec // 1 to 127
		}
		page.Envelopes = append(page.Envelopes, envelope)
	}
	page.More = page.More || size >= pageBytes
	return page, err
}

func (s *Service) page(ctx context.Context, device core.DeviceID, after int64) ([]db.ReadMessagesRow, error) {
	return storage.Ask(ctx, s.cfg.DB.Of(device), storage.Queries.ReadMessages, db.ReadMessagesParams{
		Bucket: s.cfg.DB.Buckets().Bucket(device), DeviceID: device, AfterSeq: after,
		Lifetime: storage.Interval(core.EnvelopeLifetime), MaxRows: pageRows, MaxBytes: pageBytes})
}

// Head is where a mailbox stands. Its numbers are 0 when that is not known.
type Head struct {
	Device     core.DeviceID
	Generation int64
	Last       int64
	// TakenOver: the generation is that of a takeover, and of no socket.
	TakenOver bool
	Gaps      bool // there are some; false when that was not asked
}

// headsPatience is how long a bucket is waited for where there are several: the mail of the others
// waits meanwhile.
const headsPatience = time.Second

// Heads returns where these mailboxes stand; those of devices that are gone are left out. It is for
// the poll, in case a notice was lost, and for sockets that begin, which also ask whether there are
// gaps. All buckets are asked at once. Returns an error when one does not answer: then its
// mailboxes are returned with zeros, or none at all when no bucket answers.
func (s *Service) Heads(ctx context.Context, devices []core.DeviceID, gaps bool) ([]Head, error) {
	if len(s.buckets) == 1 {
		return s.headsIn(ctx, s.buckets[0], devices, gaps)
	}
	ctx, cancel := context.WithTimeout(ctx, headsPatience)
	defer cancel()
	heads := make([]Head, 0, len(devices))
	var errs []error
	var mu sync.Mutex
	var asking sync.WaitGroup
	asked := 0
	for bucket, some := range s.cfg.DB.Buckets().Divide(devices) {
		asked++
		asking.Go(func() {
			found, err := s.headsSafelyIn(ctx, s.buckets[bucket], some, gaps)
			mu.Lock()
			defer mu.Unlock()
			heads = append(heads, found...)
			if err == nil {
				return
			}
			errs = append(errs, err)
			for _, device := range some {
				heads = append(heads, Head{Device: device})
			}
		})
	}
	if asking.Wait(); asked > 0 && len(errs) == asked {
		return nil, errors.Join(errs...)
	}
	return heads, errors.Join(errs...)
}

// headsSafelyIn is headsIn for a goroutine of its own: a panic is an error of this bucket.
func (s *Service) headsSafelyIn(ctx context.Context, b *bucket, devices []core.DeviceID, gaps bool) (heads []Head,
	err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
		}
	}()
	return s.headsIn(ctx, b, devices, gaps)
}

// headsIn are the heads in one bucket.
func (s *Service) headsIn(ctx context.Context, b *bucket, devices []core.DeviceID, gaps bool) ([]Head, error) {
	rows, err := storage.Ask(ctx, s.cfg.DB.In(b.number), storage.Queries.MailboxHeads,
		db.MailboxHeadsParams{WithGaps: gaps, Bucket: b.number, DeviceIds: devices})
	if err != nil {
		return nil, err
	}
	heads := make([]Head, 0, len(rows))
	for _, row := range rows {
		heads = append(heads, Head{Device: row.DeviceID, Generation: row.Generation, Last: row.NextSeq - 1,
			TakenOver: row.TakenOver, Gaps: row.Gaps})
	}
	return heads, nil
}
