package prekeytest

import (
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/obscura-relay/obscura/internal/prekey"
)

// SenderCertificate is what a client reads in a sender certificate of libsignal's format.
type SenderCertificate struct {
	SenderUUID  string
	SenderE164  string
	Device      uint32
	Expires     time.Time
	IdentityKey []byte
	// ServerID and ServerKey are of the server certificate inside, which is Server.
	ServerID  uint32
	ServerKey []byte
	Server    []byte
	// Signed are the bytes that the server key has signed.
	Signed []byte
}

// ParseSenderCertificate reads a sender certificate as libsignal does, and verifies the chain from
// the trust root's public key of 33 bytes down. The caller looks at the time.
func ParseSenderCertificate(certificate, root []byte) (*SenderCertificate, error) {
	outer, err := readMessage(certificate)
	if err != nil {
		return nil, fmt.Errorf("the certificate: %w", err)
	}
	inner, err := readMessage(outer.bytes[1])
	if err != nil {
		return nil, fmt.Errorf("what the certificate says: %w", err)
	}
	c := &SenderCertificate{SenderE164: string(inner.bytes[1]), Device: uint32(inner.numbers[2]),
		Expires:     time.UnixMilli(int64(inner.numbers[3])),
		IdentityKey: inner.bytes[4], Server: inner.bytes[5], SenderUUID: string(inner.bytes[6]), Signed: outer.bytes[1]}
	server, err := readMessage(c.Server)
	if err != nil {
		return nil, fmt.Errorf("the server certificate: %w", err)
	}
	says, err := readMessage(server.bytes[1])
	if err != nil {
		return nil, fmt.Errorf("what the server certificate says: %w", err)
	}
	c.ServerID, c.ServerKey = uint32(says.numbers[1]), says.bytes[2]
	if err := prekey.VerifySignature(root, server.bytes[1], server.bytes[2]); err != nil {
		return nil, fmt.Errorf("the trust root has not signed the server certificate: %w", err)
	}
	if err := prekey.VerifySignature(c.ServerKey, outer.bytes[1], outer.bytes[2]); err != nil {
		return nil, fmt.Errorf("the server key has not signed the certificate: %w", err)
	}
	return c, nil
}

// message is the fields of a protobuf message whose schema is not asked.
type message struct {
	bytes   map[protowire.Number][]byte
	numbers map[protowire.Number]uint64
}

func readMessage(b []byte) (message, error) {
	m := message{bytes: map[protowire.Number][]byte{}, numbers: map[protowire.Number]uint64{}}
	if len(b) == 0 {
		return m, errors.New("there is none")
	}
	for len(b) > 0 {
		field, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return m, protowire.ParseError(n)
		}
		b = b[n:]
		switch kind {
		case protowire.BytesType:
			m.bytes[field], n = protowire.ConsumeBytes(b)
		case protowire.VarintType:
			m.numbers[field], n = protowire.ConsumeVarint(b)
		case protowire.Fixed64Type:
			m.numbers[field], n = protowire.ConsumeFixed64(b)
		default:
			n = protowire.ConsumeFieldValue(field, kind, b)
		}
		if n < 0 {
			return m, protowire.ParseError(n)
		}
		b = b[n:]
	}
	return m, nil
}
