package push

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"fmt"

	"github.com/obscura-relay/obscura/internal/storage"
)

// VAPIDKey returns the key that all nodes sign with (RFC 8292), and makes it at the first start.
func VAPIDKey(ctx context.Context, database *storage.DB) (*ecdh.PrivateKey, error) {
	var key *ecdh.PrivateKey
	err := database.InTx(ctx, func(tx *storage.Tx) error {
		q := storage.Queries
		if err := q.LockVapidKey(ctx, tx, storage.LockVapidKey); err != nil {
			return err
		}
		secret, err := q.VapidKey(ctx, tx)
		if err == nil {
			key, err = ecdh.P256().NewPrivateKey(secret)
			return err
		}
		if !storage.IsNoRows(err) {
			return err
		}
		if key, err = ecdh.P256().GenerateKey(rand.Reader); err != nil {
			return err
		}
		return q.InsertVapidKey(ctx, tx, key.Bytes())
	})
	if err != nil {
		return nil, fmt.Errorf("cannot load the VAPID key: %w", err)
	}
	return key, nil
}
