package certificate

import (
	"context"
	"fmt"

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

// load reads the keys, making them under a lock that all nodes share when there are none.
func load(ctx context.Context, database *storage.DB) (*Keys, error) {
	return locked(ctx, database, func(db.DBTX, *xeddsa.PrivateKey, *Keys) error { return nil })
}

// locked reads the keys, or makes them, and calls fn with them in the same transaction.
func locked(ctx context.Context, database *storage.DB,
	fn func(tx db.DBTX, root *xeddsa.PrivateKey, keys *Keys) error) (*Keys, error) {
	var keys *Keys
	err := database.InTx(ctx, func(tx db.DBTX) error {
		q := storage.Queries
		if err := q.LockCertificateKeys(ctx, tx, storage.LockCertificateKeys); err != nil {
			return err
		}
		row, err := q.CertificateKeys(ctx, tx)
		if storage.IsNoRows(err) {
			row = newKeys()
			err = q.InsertCertificateKeys(ctx, tx, db.InsertCertificateKeysParams(row))
		}
		if err != nil {
			return err
		}
		root, err := xeddsa.NewPrivateKey(row.RootSecret)
		if err != nil {
			return err
		}
		server, err := xeddsa.NewPrivateKey(row.ServerSecret)
		if err != nil {
			return err
		}
		keys = &Keys{Root: root.PublicKey(), ID: uint32(row.ServerID), //nolint:gosec // counted from 1
			Certificate: row.ServerCertificate, server: server}
		return fn(tx, root, keys)
	})
	if err != nil {
		return nil, fmt.Errorf("cannot load the keys of sender certificates: %w", err)
	}
	return keys, nil
}

func newKeys() db.CertificateKeysRow {
	root, server := xeddsa.Generate(), xeddsa.Generate()
	return db.CertificateKeysRow{RootSecret: root.Bytes(), ServerID: 1, ServerSecret: server.Bytes(),
		ServerCertificate: signServer(root, 1, server.PublicKey())}
}
