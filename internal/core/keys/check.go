package keys

import (
	"bytes"
	"errors"

	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/prekey"
)

// Errors of uploads.
var (
	errBadKey       = core.NewError(core.Invalid, "invalid_key", "A public key is not valid.")
	ErrBadSignature = core.NewError(core.Invalid, "invalid_signature",
		"A signature does not verify under the identity key.")
	ErrKeyIDTwice     = core.NewError(core.Conflict, "key_id_conflict", "A key id is in use for a different key.")
	ErrKeyIDNotHigher = core.NewError(core.Invalid, "key_id_not_higher",
		"A new signed pre-key or last-resort key needs a higher id than the stored one.")
	errNoRegistrationID = core.NewError(core.Invalid, "registration_id_missing",
		"An identity key must come with a registration id.")
	ErrTakeoverUnsigned = core.NewError(core.Invalid, "signed_pre_key_missing",
		"A new identity key must come with a signed pre-key.")
	ErrIdentityChanged = core.NewError(core.Conflict, "identity_changed",
		"The device's identity key was replaced at the same time.")
	ErrDeviceGone        = core.NewError(core.NotFound, "device_not_found", "There is no such device.")
	errKeyIDOutOfBounds  = core.NewError(core.Invalid, "invalid_key_id", "A key id is out of bounds.")
	errRegistrationBound = core.NewError(core.Invalid, "invalid_registration_id",
		"The registration id is out of bounds.")
	errTooManyKeys = core.NewError(core.Invalid, "too_many_keys",
		"At most 100 one-time keys of a kind go into an upload.")
)

// Check verifies every key and signature of an upload under an identity key. It is pure and takes
// up to about 10 ms: call it outside transactions.
func Check(identity []byte, u *Publication) error {
	parsed, err := prekey.ParseIdentityKey(identity)
	if err != nil {
		return errBadKey
	}
	if u.Identity != nil && prekey.CheckRegistrationID(int64(u.RegistrationID)) != nil {
		return errRegistrationBound
	}
	if len(u.EC) > core.MaxPreKeys || len(u.Kyber) > core.MaxPreKeys {
		return errTooManyKeys
	}
	seen := map[int32][]byte{}
	for _, k := range u.EC {
		if prekey.CheckECPublicKey(k.Public) != nil {
			return errBadKey
		}
		if err := once(seen, k.ID, k.Public); err != nil {
			return err
		}
	}
	if u.Signed != nil {
		if err := checkSigned(parsed, u.Signed, prekey.CheckECPublicKey); err != nil {
			return err
		}
	}
	if u.LastResort != nil {
		if err := checkSigned(parsed, u.LastResort, prekey.CheckKyberPublicKey); err != nil {
			return err
		}
	}
	seen = map[int32][]byte{}
	for i := range u.Kyber {
		if err := checkSigned(parsed, &u.Kyber[i], prekey.CheckKyberPublicKey); err != nil {
			return err
		}
		if err := once(seen, u.Kyber[i].ID, u.Kyber[i].Public); err != nil {
			return err
		}
	}
	return nil
}

func checkSigned(identity *prekey.IdentityKey, k *SignedPreKey, check func([]byte) error) error {
	if prekey.CheckKeyID(int64(k.ID)) != nil {
		return errKeyIDOutOfBounds
	}
	if check(k.Public) != nil {
		return errBadKey
	}
	err := identity.Verify(k.Public, k.Signature)
	if errors.Is(err, prekey.ErrSignatureLength) || errors.Is(err, prekey.ErrSignature) {
		return ErrBadSignature
	}
	return err
}

// once refuses an id that stands twice in an upload with different keys.
func once(seen map[int32][]byte, id int32, public []byte) error {
	if prekey.CheckKeyID(int64(id)) != nil {
		return errKeyIDOutOfBounds
	}
	if before, ok := seen[id]; ok && !bytes.Equal(before, public) {
		return ErrKeyIDTwice
	}
	seen[id] = public
	return nil
}
