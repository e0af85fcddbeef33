// Package core holds the words of the product: who calls, what a mailbox holds, what can go wrong,
// and what nodes tell each other. It does no I/O and imports nothing of ours; the use cases below
// it (account, device, keys, mailbox, blob) do the work.
package core

import (
	"bytes"
	"crypto/sha256"
	"slices"
	"time"

	"github.com/google/uuid"
)

// Identifiers are random UUIDs (version 4): an id does not tell when somebody joined.
type (
	// UserID names a user.
	UserID = uuid.UUID
	// DeviceID names a device. It is also the name of the device's mailbox.
	DeviceID = uuid.UUID
	// SessionID names a family of refresh tokens and the access tokens issued from it.
	SessionID = uuid.UUID
)

// Distinct sorts identifiers and leaves each once. It changes the slice.
func Distinct(ids []uuid.UUID) []uuid.UUID {
	slices.SortFunc(ids, func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) })
	return slices.Compact(ids)
}

// LockOrder sorts devices and leaves each once: in this order rows of several devices of one bucket
// are locked, by everybody. It changes the slice.
func LockOrder(devices []DeviceID) []DeviceID { return Distinct(devices) }

// HashID makes an identifier of the first 16 bytes of a hash, as a version 8 UUID (RFC 9562): it is
// never taken for a random one.
func HashID(sum []byte) uuid.UUID {
	id := uuid.UUID(sum[:16])
	id[6], id[8] = 0x80|id[6]&0x0f, 0x80|id[8]&0x3f
	return id
}

// Limits of the contract. They are not configurable: clients rely on them.
const (
	// MailboxCap is how many envelopes a mailbox holds at any instant.
	MailboxCap = 1000
	// EnvelopeLifetime is how long an envelope waits for its device.
	EnvelopeLifetime = 30 * 24 * time.Hour
	// MaxMessage is the largest ciphertext of one envelope, in bytes.
	MaxMessage = 256 << 10
	// MaxRecipients is how many recipients the shared submissions of a request have, MaxExpanded
	// how many bytes they expand to, MaxPrefix how many of them are a recipient's own.
	MaxRecipients = 1000
	MaxExpanded   = 4 << 20
	MaxPrefix     = 256
	// MaxAudiences is how many audiences a request to send names.
	MaxAudiences = 100
	// MaxDeliveryTokens is how many delivery tokens a user has at once.
	MaxDeliveryTokens = 1000
	// MaxSubmissions is the largest number of submissions in one request.
	MaxSubmissions = 100
	// MaxSendBody is the largest body of a send request, in bytes.
	MaxSendBody = 2 << 20
	// MaxAttachment and MaxBackup are the largest blobs, MinBackup the smallest backup, in bytes.
	MaxAttachment = 50 << 20
	MaxBackup     = 2 << 20
	MinBackup     = 32
	// AttachmentLifetime is how long an attachment is kept.
	AttachmentLifetime = 30 * 24 * time.Hour
	// MaxDevices is how many devices a user has at once.
	MaxDevices = 10
	// MaxPreKeys is how many one-time pre-keys of a kind a device holds, and an upload carries.
	MaxPreKeys = 100
	// LowPreKeys is the count below which a device is told to refill.
	LowPreKeys = 20
)

// DeliveryTokenBytes is the length of a delivery token.
const DeliveryTokenBytes = 32

// Registration is who may register.
type Registration string

// The words of the contract: anybody, those who have an invitation, nobody.
const (
	RegistrationOpen   Registration = "open"
	RegistrationInvite Registration = "invite"
	RegistrationClosed Registration = "closed"
)

// DeliveryTokenHash is SHA-256 of a delivery token, which a user gives to those who may write
// unnamed. Only the hash of a token is kept.
type DeliveryTokenHash [sha256.Size]byte

// Principal is who makes a request: proven by an access token or a gateway ticket.
type Principal struct {
	User    UserID
	Session SessionID
	// Device is the nil UUID in a user-scoped token.
	Device DeviceID
	// DeviceNumber is 1 to 127, and 0 in a user-scoped token.
	DeviceNumber uint8
}

// DeviceScoped reports whether the principal may act as a device.
func (p Principal) DeviceScoped() bool { return p.Device != uuid.Nil }

// Envelope is one stored message as its recipient gets it.
type Envelope struct {
	// Sequence counts 1, 2, 3 and so on per recipient device, in commit order, without holes.
	Sequence int64
	// Sender and SenderDevice are the nil UUID in a sealed envelope.
	Sender       UserID
	SenderDevice DeviceID
	// SenderNumber is the sending device's number, 1 to 127; 0 in a sealed envelope.
	SenderNumber uint8
	// AcceptedAt is the database's time, to the microsecond.
	AcceptedAt time.Time
	// Message is ciphertext. It is never logged and never looked into.
	Message []byte
}

// GapReason is why envelopes were dropped. The numbers are those of obscura.proto.
type GapReason int16

// The reasons of the contract.
const (
	GapExpired     GapReason = 1
	GapCap         GapReason = 2
	GapTakeover    GapReason = 3
	GapQuarantined GapReason = 4
)

// Gap is a range of sequences, both ends included, that was dropped without being delivered.
type Gap struct {
	From, To int64
	Reason   GapReason
}
