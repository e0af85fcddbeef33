package certificate

import (
	"errors"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/obscura-relay/obscura/internal/prekey"
	"github.com/obscura-relay/obscura/internal/xeddsa"
)

// The messages are libsignal's (sealed_sender.proto). They are written by hand, since what is
// signed is bytes and not a message: the fields are in the order of their numbers, as libsignal
// writes them.
//
//	ServerCertificate { bytes certificate = 1; bytes signature = 2; }
//	    certificate   { uint32 id = 1; bytes key = 2; }
//	SenderCertificate { bytes certificate = 1; bytes signature = 2; }
//	    certificate   { string sender_e164 = 1; uint32 sender_device = 2; fixed64 expires = 3;
//	                    bytes identity_key = 4; bytes signer = 5; string sender_uuid = 6; }
const (
	fieldCertificate = 1
	fieldSignature   = 2

	fieldServerID  = 1
	fieldServerKey = 2

	fieldSenderE164   = 1
	fieldSenderDevice = 2
	fieldExpires      = 3
	fieldIdentityKey  = 4
	fieldSigner       = 5
	fieldSenderUUID   = 6
)

// errServerCertificate refuses bytes that are no server certificate.
var errServerCertificate = errors.New("it is not a server certificate of libsignal")

// sender is what a sender certificate says.
type sender struct {
	E164     string
	UUID     string
	Device   uint32
	Identity []byte // 33 bytes
	Expires  time.Time
}

// signSender writes a sender certificate. The server certificate is that of the key which signs.
func signSender(server *xeddsa.PrivateKey, serverCertificate []byte, s sender) []byte {
	return signed(server, writeSender(serverCertificate, s))
}

// writeSender writes what is signed of a sender certificate.
func writeSender(serverCertificate []byte, s sender) []byte {
	b := appendBytes(nil, fieldSenderE164, []byte(s.E164))
	b = protowire.AppendTag(b, fieldSenderDevice, protowire.VarintType)
	b = protowire.AppendVarint(b, uint64(s.Device))
	b = protowire.AppendTag(b, fieldExpires, protowire.Fixed64Type)
	b = protowire.AppendFixed64(b, uint64(s.Expires.UnixMilli()))
	b = appendBytes(b, fieldIdentityKey, s.Identity)
	b = appendBytes(b, fieldSigner, serverCertificate)
	return appendBytes(b, fieldSenderUUID, []byte(s.UUID))
}

// signServer writes the certificate of a server key.
func signServer(root *xeddsa.PrivateKey, id uint32, key []byte) []byte {
	return signed(root, writeServer(id, key))
}

// writeServer writes what is signed of a server certificate.
func writeServer(id uint32, key []byte) []byte {
	b := protowire.AppendTag(nil, fieldServerID, protowire.VarintType)
	b = protowire.AppendVarint(b, uint64(id))
	return appendBytes(b, fieldServerKey, key)
}

func signed(key *xeddsa.PrivateKey, certificate []byte) []byte {
	b := make([]byte, 0, len(certificate)+xeddsa.SignatureSize+8)
	b = appendBytes(b, fieldCertificate, certificate)
	return appendBytes(b, fieldSignature, key.Sign(certificate))
}

func appendBytes(b []byte, field protowire.Number, value []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), value)
}

// server is what a server certificate says.
type server struct {
	id  uint32
	key []byte // 33 bytes

	certificate, signature []byte
}

// parseServer reads a server certificate. It does not look who signed it.
func parseServer(b []byte) (server, error) {
	var s server
	err := fields(b, func(field protowire.Number, value []byte, _ uint64) {
		switch field {
		case fieldCertificate:
			s.certificate = value
		case fieldSignature:
			s.signature = value
		}
	})
	if err != nil || s.certificate == nil {
		return server{}, errServerCertificate
	}
	hasID := false
	err = fields(s.certificate, func(field protowire.Number, value []byte, number uint64) {
		switch field {
		case fieldServerID:
			hasID, s.id = value == nil, uint32(number) //nolint:gosec // as protobuf reads a uint32
		case fieldServerKey:
			s.key = value
		}
	})
	if err != nil || !hasID || prekey.CheckECPublicKey(s.key) != nil {
		return server{}, errServerCertificate
	}
	return s, nil
}

// fields calls fn with every field of a message: its bytes, or its number. As protobuf has it, the
// last of several fields of a number counts.
func fields(b []byte, fn func(field protowire.Number, value []byte, number uint64)) error {
	for len(b) > 0 {
		field, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		var value []byte
		var number uint64
		switch kind {
		case protowire.BytesType:
			value, n = protowire.ConsumeBytes(b)
		case protowire.VarintType:
			number, n = protowire.ConsumeVarint(b)
		default:
			n = protowire.ConsumeFieldValue(field, kind, b)
			field = 0
		}
		if n < 0 {
			return protowire.ParseError(n)
		}
		fn(field, value, number)
		b = b[n:]
	}
	return nil
}
