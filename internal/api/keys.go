package api

import (
	"context"
	"errors"

	"github.com/obscura-relay/obscura/gen/api"
	"github.com/obscura-relay/obscura/internal/core/account"
	"github.com/obscura-relay/obscura/internal/core/keys"
)

// UploadKeys refills or replaces the device's keys.
func (s *server) UploadKeys(ctx context.Context, r api.UploadKeysRequestObject) (api.UploadKeysResponseObject, error) {
	body := r.Body
	upload := keys.Publication{LastResort: kyberKey(body.LastResortKyberPreKey), EC: ecKeys(body.OneTimePreKeys),
		Kyber: kyberKeys(body.KyberPreKeys)}
	if body.IdentityKey != nil {
		upload.Identity = *body.IdentityKey
	}
	if body.RegistrationID != nil {
		upload.RegistrationID = *body.RegistrationID
	}
	if k := body.SignedPreKey; k != nil {
		upload.Signed = &keys.SignedPreKey{ID: k.KeyID, Public: k.PublicKey, Signature: k.Signature}
	}
	return api.UploadKeys200Response{}, ofOwnDevice(s.cfg.Keys.Publish(ctx, principal(ctx), upload))
}

// GetKeyInventory lists what the relay holds for the device.
func (s *server) GetKeyInventory(ctx context.Context,
	_ api.GetKeyInventoryRequestObject) (api.GetKeyInventoryResponseObject, error) {
	inv, err := s.cfg.Keys.Inventory(ctx, principal(ctx).Device)
	if err != nil {
		return nil, ofOwnDevice(err)
	}
	return api.GetKeyInventory200JSONResponse{Body: inventoryResponse(&inv)}, nil
}

// ofOwnDevice is the error of a request for the caller's own device. When the device has just been
// deleted, and this node has not heard of it, it is the token that is no longer good.
func ofOwnDevice(err error) error {
	if errors.Is(err, keys.ErrDeviceGone) {
		return account.ErrUnauthorized
	}
	return err
}

// GetPreKeyBundles hands out a user's bundles.
func (s *server) GetPreKeyBundles(ctx context.Context,
	r api.GetPreKeyBundlesRequestObject) (api.GetPreKeyBundlesResponseObject, error) {
	bundles, err := s.cfg.Keys.Bundles(ctx, r.UserID, r.Params.DeviceID...)
	if err != nil {
		return nil, err
	}
	out := make([]api.PreKeyBundle, len(bundles))
	for i := range bundles {
		out[i] = bundleResponse(&bundles[i])
	}
	return api.GetPreKeyBundles200JSONResponse{Body: out}, nil
}

func bundleResponse(b *keys.Bundle) api.PreKeyBundle {
	out := api.PreKeyBundle{
		DevicesVersion: b.DevicesVersion,
		DeviceID:       b.Device,
		DeviceNumber:   int32(b.DeviceNumber),
		RegistrationID: b.RegistrationID,
		IdentityKey:    b.Identity,
		SignedPreKey:   api.SignedPreKey{KeyID: b.Signed.ID, PublicKey: b.Signed.Public, Signature: b.Signed.Signature},
	}
	if k := b.OneTime; k != nil {
		out.OneTimePreKey = &api.OneTimePreKey{KeyID: k.ID, PublicKey: k.Public}
	}
	if k := b.Kyber; k != nil {
		out.KyberPreKey = &api.KyberPreKey{KeyID: k.ID, PublicKey: k.Public, Signature: k.Signature}
	}
	return out
}

func inventoryResponse(inv *keys.Inventory) api.KeyInventory {
	return api.KeyInventory{IdentityKey: inv.Identity, RegistrationID: inv.RegistrationID, SignedPreKeyID: inv.SignedID,
		LastResortKyberPreKeyID: inv.LastResortID,
		OneTimePreKeyCount:      int32(len(inv.EC)), OneTimePreKeyIds: inv.EC, //nolint:gosec // at most 100
		KyberPreKeyCount: int32(len(inv.Kyber)), KyberPreKeyIds: inv.Kyber, //nolint:gosec // at most 100
		Digest: inv.Digest[:]}
}

func ecKeys(in []api.OneTimePreKey) []keys.PreKey {
	out := make([]keys.PreKey, len(in))
	for i, k := range in {
		out[i] = keys.PreKey{ID: k.KeyID, Public: k.PublicKey}
	}
	return out
}

func kyberKeys(in []api.KyberPreKey) []keys.SignedPreKey {
	out := make([]keys.SignedPreKey, len(in))
	for i := range in {
		out[i] = *kyberKey(&in[i])
	}
	return out
}

func kyberKey(k *api.KyberPreKey) *keys.SignedPreKey {
	if k == nil {
		return nil
	}
	return &keys.SignedPreKey{ID: k.KeyID, Public: k.PublicKey, Signature: k.Signature}
}
