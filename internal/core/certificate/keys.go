package certificate

import (
	"context"
	"errors"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/gen/db"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/storage"
	"github.com/obscura-relay/obscura/internal/xeddsa"
)

// Keys are what certificates are made with. The exported fields are public.
type Keys struct {
	// Root is the public key of the trust root, 33 bytes.
	Root []byte
	// ID is that of the server certificate, which is Certificate.
	ID          uint32
	Certificate []byte

	server *xeddsa.PrivateKey
}

// errNoKeys says that no relay has started on this database.
var errNoKeys = errors.New("the database has no keys of sender certificates yet: a relay makes them when it starts")

// load reads the keys, making them under a lock that all nodes share when there are none.
func load(ctx context.Context, database *storage.DB) (*Keys, error) {
	var row db.CertificateKeysRow
	err := database.InTx(ctx, func(tx *storage.Tx) (err error) {
		q := storage.Queries
		if err := q.LockCertificateKeys(ctx, tx, storage.LockCertificateKeys); err != nil {
			return err
		}
		if row, err = q.CertificateKeys(ctx, tx); storage.IsNoRows(err) {
			row = newKeys()
			err = q.InsertCertificateKeys(ctx, tx, db.InsertCertificateKeysParams(row))
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return keysOf(row)
}

func newKeys() db.CertificateKeysRow {
	root, server := xeddsa.Generate(), xeddsa.Generate()
	return db.CertificateKeysRow{RootSecret: root.Bytes(), ServerID: 1, ServerSecret: server.Bytes(),
		ServerCertificate: signServer(root, 1, server.PublicKey())}
}

func keysOf(row db.CertificateKeysRow) (*Keys, error) {
	root, err := xeddsa.NewPrivateKey(row.RootSecret)
	if err != nil {
		return nil, err
	}
	server, err := xeddsa.NewPrivateKey(row.ServerSecret)
	return &Keys{Root: root.PublicKey(), ID: uint32(row.ServerID), //nolint:gosec // counted from 1
		Certificate: row.ServerCertificate, server: server}, err
}

// Stored reads the keys that are in the database. Returns errNoKeys.
func Stored(ctx context.Context, database *storage.DB) (*Keys, error) {
	return stored(ctx, database, func(*storage.Tx, *db.CertificateKeysRow) error { return nil })
}

// ReplaceRoot makes another trust root and server key, and tells the relays. Clients that pin the
// old root refuse what is signed from then on. Returns errNoKeys.
func ReplaceRoot(ctx context.Context, database *storage.DB) (*Keys, error) {
	return stored(ctx, database, func(tx *storage.Tx, row *db.CertificateKeysRow) error {
		*row = newKeys()
		if err := storage.Queries.ReplaceCertificateKeys(ctx, tx, db.ReplaceCertificateKeysParams(*row)); err != nil {
			return err
		}
		return replaced.Notify(ctx, tx)
	})
}

// replaced is what relays hear, which then read the keys again.
var replaced = storage.Notices{{Kind: core.NoticeSigningKeys, IDs: []uuid.UUID{uuid.Nil}}}

// Rotate replaces the server key by one that the same trust root has signed, and tells the relays.
// Certificates that the old one has signed stay valid until they expire. Returns errNoKeys.
func Rotate(ctx context.Context, database *storage.DB) (*Keys, error) {
	return stored(ctx, database, func(tx *storage.Tx, row *db.CertificateKeysRow) error {
		root, err := xeddsa.NewPrivateKey(row.RootSecret)
		if err != nil {
			return err
		}
		server := xeddsa.Generate()
		row.ServerID++
		row.ServerSecret = server.Bytes()
		row.ServerCertificate = signServer(root, uint32(row.ServerID), server.PublicKey()) //nolint:gosec // counted from 1
		if err := storage.Queries.ReplaceServerKey(ctx, tx, db.ReplaceServerKeyParams{ServerID: row.ServerID,
			ServerSecret: row.ServerSecret, ServerCertificate: row.ServerCertificate}); err != nil {
			return err
		}
		return replaced.Notify(ctx, tx)
	})
}

// stored reads the keys that are in the database and lets fn change them.
func stored(ctx context.Context, database *storage.DB,
	fn func(tx *storage.Tx, row *db.CertificateKeysRow) error) (keys *Keys, err error) {
	err = database.InTx(ctx, func(tx *storage.Tx) error {
		q := storage.Queries
		if err := q.LockCertificateKeys(ctx, tx, storage.LockCertificateKeys); err != nil {
			return err
		}
		row, err := q.CertificateKeys(ctx, tx)
		if err != nil {
			return storage.NoRowsAs(err, errNoKeys)
		}
		if err := fn(tx, &row); err != nil {
			return err
		}
		keys, err = keysOf(row)
		return err
	})
	return keys, err
}
