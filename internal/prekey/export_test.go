package prekey

// VerifyBare is VerifySignature without the low-order check: libsignal's
// PublicKey.verify and nothing around it, for the comparison with its verdicts.
func VerifyBare(identityKey, message, signature []byte) error {
	u, err := decodeEC(identityKey)
	if err != nil {
		return err
	}
	k, err := newIdentityKey(u)
	if err != nil {
		return err
	}
	return k.Verify(message, signature)
}

// LowOrder gives the tests the list that stands for an X25519.
func LowOrder() [][32]byte { return lowOrder[:] }
