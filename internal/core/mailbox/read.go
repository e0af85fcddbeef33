package mailbox

import (
	"context"

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
	return storage.Ask(ctx, s.cfg.DB, storage.Queries.ReadMessages, db.ReadMessagesParams{
		Bucket: s.cfg.DB.Buckets().Bucket(device), DeviceID: device, AfterSeq: after,
		Lifetime: storage.Interval(core.EnvelopeLifetime), MaxRows: pageRows, MaxBytes: pageBytes})
}

// Head is where a mailbox stands.
type Head struct {
	Device     core.DeviceID
	Generation int64
	Last       int64
}

// Heads returns where these mailboxes stand; those of devices that are gone are left out. It is the
// poll in case a notice was lost.
func (s *Service) Heads(ctx context.Context, devices []core.DeviceID) ([]Head, error) {
	heads := make([]Head, 0, len(devices))
	for bucket, some := range s.cfg.DB.Buckets().Divide(devices) {
		rows, err := storage.Ask(ctx, s.cfg.DB, storage.Queries.MailboxHeads,
			db.MailboxHeadsParams{Bucket: bucket, DeviceIds: some})
		if err != nil {
			return nil, err
		}
		for _, row := range rows {
			heads = append(heads, Head{Device: row.DeviceID, Generation: row.Generation, Last: row.NextSeq - 1})
		}
	}
	return heads, nil
}
