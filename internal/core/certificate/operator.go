package certificate

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/obscura-relay/obscura/internal/prekey"
	"github.com/obscura-relay/obscura/internal/xeddsa"
)

// revokedID is the one id of a server certificate that libsignal refuses.
const revokedID = 0xdeadc357

// What is wrong with an operator's keys. ErrRoot is about the trust root, ErrKey about the private
// key, and the others about the server certificate.
var (
	ErrRoot      = errors.New("it must be the public key of a trust root, 33 bytes that begin with 0x05")
	ErrKey       = errors.New("it must be the private key of the server certificate, 32 bytes")
	errNotSigned = errors.New("the trust root has not signed it")
	errRevoked   = fmt.Errorf("libsignal refuses server certificates with the id %d", uint32(revokedID))
)

// NewKeys takes an operator's keys, whose root stays elsewhere: its public key, a server
// certificate that it has signed, and the private key to that. Returns one of the errors above, or
// says that the certificate is none.
func NewKeys(root, certificate, key []byte) (*Keys, error) {
	trusted, err := prekey.ParseIdentityKey(root)
	if err != nil {
		return nil, ErrRoot
	}
	s, err := parseServer(certificate)
	if err != nil {
		return nil, err
	}
	if trusted.Verify(s.certificate, s.signature) != nil {
		return nil, errNotSigned
	}
	if s.id == revokedID {
		return nil, errRevoked
	}
	private, err := xeddsa.NewPrivateKey(key)
	if err != nil || !bytes.Equal(private.PublicKey(), s.key) {
		return nil, ErrKey
	}
	return &Keys{Root: root, ID: s.id, Certificate: certificate, server: private}, nil
}
