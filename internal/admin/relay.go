package admin

import (
	"context"
	"encoding/base64"
	"time"

	"github.com/obscura-relay/obscura/internal/core/account"
	"github.com/obscura-relay/obscura/internal/core/certificate"
	"github.com/obscura-relay/obscura/internal/storage"
)

// Stats counts what the database holds.
type Stats struct{}

type stats struct {
	Users             int64 `json:"users"`
	DisabledUsers     int64 `json:"disabledUsers"`
	Devices           int64 `json:"devices"`
	Sessions          int64 `json:"sessions"`
	PushTokens        int64 `json:"pushTokens"`
	DeliveryTokens    int64 `json:"deliveryTokens"`
	Invitations       int64 `json:"invitations"`
	PendingEnvelopes  int64 `json:"pendingEnvelopes"`
	MailboxesWithMail int64 `json:"mailboxesWithMail"`
	Attachments       int64 `json:"attachments"`
	AttachmentBytes   int64 `json:"attachmentBytes"`
	Backups           int64 `json:"backups"`
	BackupBytes       int64 `json:"backupBytes"`
	BlobsInTrash      int64 `json:"blobsInTrash"`
	DatabaseBytes     int64 `json:"databaseBytes"`
}

// Do implements Command.
func (Stats) Do(ctx context.Context, db *storage.DB) (any, error) {
	var all stats
	err := db.Do(ctx, func(conn *storage.Tx) error {
		row, err := storage.Queries.Stats(ctx, conn)
		if err != nil {
			return err
		}
		all = stats{Users: row.Users, DisabledUsers: row.DisabledUsers, Devices: row.Devices, Sessions: row.Sessions,
			DeliveryTokens: row.DeliveryTokens, Invitations: row.Invitations, Attachments: row.Attachments,
			AttachmentBytes: row.AttachmentBytes, Backups: row.Backups, BackupBytes: row.BackupBytes,
			BlobsInTrash: row.BlobsInTrash, DatabaseBytes: row.DatabaseBytes}
		for bucket := range conn.AllBuckets() {
			row, err := storage.Queries.BucketStats(ctx, conn, bucket)
			if err != nil {
				return err
			}
			all.PushTokens += row.PushTokens
			all.PendingEnvelopes += row.PendingEnvelopes
			all.MailboxesWithMail += row.MailboxesWithMail
		}
		return nil
	})
	return all, err
}

// RotateTokens replaces the keys that sign access tokens.
type RotateTokens struct{}

// Do implements Command.
func (RotateTokens) Do(ctx context.Context, db *storage.DB) (any, error) {
	return struct {
		Rotated string `json:"rotated"`
	}{"tokens"}, account.ReplaceSigningKeys(ctx, db)
}

// RotateCertificates replaces the server key that signs sender certificates, as
// `obscura certificates rotate` does.
type RotateCertificates struct{}

// Do implements Command.
func (RotateCertificates) Do(ctx context.Context, db *storage.DB) (any, error) {
	return shownKeys(certificate.Rotate(ctx, db))
}

// RotateTrustRoot replaces the trust root of sender certificates, and the server key with it.
type RotateTrustRoot struct{}

// Do implements Command.
func (RotateTrustRoot) Do(ctx context.Context, db *storage.DB) (any, error) {
	return shownKeys(certificate.ReplaceRoot(ctx, db))
}

func shownKeys(keys *certificate.Keys, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return struct {
		Root        string `json:"trustRoot"`
		Certificate uint32 `json:"serverCertificate"`
	}{base64.StdEncoding.EncodeToString(keys.Root), keys.ID}, nil
}

// ListTrash lists the blobs that are to be deleted.
type ListTrash struct{}

// Do implements Command.
func (ListTrash) Do(ctx context.Context, db *storage.DB) (any, error) {
	type blob struct {
		Key   string     `json:"key"`
		DueAt *time.Time `json:"dueAt"`
	}
	list := []blob{}
	err := db.Do(ctx, func(conn *storage.Tx) error {
		rows, err := storage.Queries.ListTrash(ctx, conn)
		for _, r := range rows {
			list = append(list, blob{r.Key, inSeconds(&r.DueAt)})
		}
		return err
	})
	return list, err
}

// EmptyTrash has the running relays delete them now.
type EmptyTrash struct{}

// Do implements Command.
func (EmptyTrash) Do(ctx context.Context, db *storage.DB) (any, error) {
	var n int64
	err := db.Do(ctx, func(conn *storage.Tx) (err error) {
		n, err = storage.Queries.HastenTrash(ctx, conn)
		return err
	})
	return struct {
		Due int64 `json:"due"`
	}{n}, err
}
