package certificate

import (
	"context"
	"errors"

	"github.com/obscura-relay/obscura/gen/db"
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

// ErrNoKeys says that no relay has started on this database.
var ErrNoKeys = errors.New("the database has no keys of sender certificates yet: a relay makes them when it starts")

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
	root, err := xeddsa.NewPrivateKey(row.RootSecret)
	if err != nil {
		return nil, err
	}
	return keysOf(root, row)
}

func newKeys() db.CertificateKeysRow {
	root, server := xeddsa.Generate(), xeddsa.Generate()
	return db.CertificateKeysRow{RootSecret: root.Bytes(), ServerID: 1, ServerSecret: server.Bytes(),
		ServerCertificate: signServer(root, 1, server.PublicKey())}
}

func keysOf(root *xeddsa.PrivateKey, row db.CertificateKeysRow) (*Keys, error) {
	server, err := xeddsa.NewPrivateKey(row.ServerSecret)
	return &Keys{Root: root.PublicKey(), ID: uint32(row.ServerID), //nolint:gosec // counted from 1
		Certificate: row.ServerCertificate, server: server}, err
}

// Stored reads the keys that are in the database. Returns ErrNoKeys.
func Stored(ctx context.Context, database *storage.DB) (*Keys, error) {
	return stored(ctx, database, func(*storage.Tx, *db.CertificateKeysRow, *xeddsa.PrivateKey) error { return nil })
}

// Rotate replaces the server key by one that the same trust root has signed. Certificates that the
// old one has signed stay valid until they expire. Returns ErrNoKeys.
func Rotate(ctx context.Context, database *storage.DB) (*Keys, error) {
	return stored(ctx, database, func(tx *storage.Tx, row *db.CertificateKeysRow, root *xeddsa.PrivateKey) error {
		server := xeddsa.Generate()
		row.ServerID++
		row.ServerSecret = server.Bytes()
		row.ServerCertificate = signServer(root, uint32(row.ServerID), server.PublicKey()) //nolint:gosec // counted from 1
		return storage.Queries.ReplaceServerKey(ctx, tx, db.ReplaceServerKeyParams{ServerID: row.ServerID,
			ServerSecret: row.ServerSecret, ServerCertificate: row.ServerCertificate})
	})
}

// stored reads the keys that are in the database and lets fn change them.
func stored(ctx context.Context, database *storage.DB,
	fn func(tx *storage.Tx, row *db.CertificateKeysRow, root *xeddsa.PrivateKey) error) (keys *Keys, err error) {
	err = database.InTx(ctx, func(tx *storage.Tx) error {
		q := storage.Queries
		if err := q.LockCertificateKeys(ctx, tx, storage.LockCertificateKeys); err != nil {
			return err
		}
		row, err := q.CertificateKeys(ctx, tx)
		if err != nil {
			return storage.NoRowsAs(err, ErrNoKeys)
		}
		root, err := xeddsa.NewPrivateKey(row.RootSecret)
		if err != nil {
			return err
		}
		if err := fn(tx, &row, root); err != nil {
			return err
		}
		keys, err = keysOf(root, row)
		return err
	})
	return keys, err
}
