package obscura

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/obscura-relay/obscura/gen/client"
	"github.com/obscura-relay/obscura/gen/obscurapb"
)

const protobuf = "application/x-protobuf"

var errNoKey = errors.New("a batch is made by NewBatch: this one has no key")

// Submission is one ciphertext for one device. A message to a user with three devices is three of
// them.
type Submission struct {
	// ID names the submission in the answer. NewBatch chooses one where it is uuid.Nil.
	ID uuid.UUID `json:"id"`
	// DeviceID is the receiving device, from its bundle.
	DeviceID uuid.UUID `json:"deviceId"`
	// Message is the ciphertext, 1 byte to 256 KiB.
	Message []byte `json:"message"`
	// Quiet: the device is not woken up for it. It is delivered all the same.
	Quiet bool `json:"quiet,omitempty"`
	// DeliveryToken is for SendSealed, and only for that: one of the device's user.
	DeliveryToken DeliveryToken `json:"deliveryToken,omitempty"`
}

// SharedSubmission is one body for many: each recipient gets an envelope with its own prefix and
// then Message, which travels once. Of a multi-recipient message of libsignal the prefix is 49
// bytes; a message under a sender key needs none.
type SharedSubmission struct {
	Message []byte `json:"message"`
	// Recipients are at most 1000 in a batch. With prefix and message for each they come to at most
	// 4 MiB.
	Recipients []SharedRecipient `json:"recipients"`
	// Quiet: no recipient is woken up for it, as in Submission.
	Quiet bool `json:"quiet,omitempty"`
}

// SharedRecipient is one device that gets a SharedSubmission.
type SharedRecipient struct {
	// ID names the submission in the answer. NewShared chooses one where it is uuid.Nil.
	ID       uuid.UUID `json:"id"`
	DeviceID uuid.UUID `json:"deviceId"`
	// Prefix has at most 256 bytes; together with the message 1 byte to 256 KiB.
	Prefix []byte `json:"prefix,omitempty"`
	// DeliveryToken is as in Submission.
	DeliveryToken DeliveryToken `json:"deliveryToken,omitempty"`
}

// Batch is what one request sends: at most 100 submissions, 1000 recipients of shared ones, and
// 2 MiB. It is plain data. An application that must not lose it nor send it twice, even when it is
// killed, stores it before it sends it and sends the same one after its restart, within 24 hours.
type Batch struct {
	// Key is the Idempotency-Key: the relay stores the submissions that come with it once.
	Key uuid.UUID `json:"key"`
	// Submissions are sent in this order.
	Submissions []Submission `json:"submissions"`
	// Shared come after Submissions, in this order.
	Shared []SharedSubmission `json:"shared,omitempty"`
	// Audiences are the users whose devices the submissions are for, at most 100. If one of them
	// has other devices, nothing is stored: see DevicesChangedError.
	Audiences []Audience `json:"audiences,omitempty"`
}

// Audience says which of a user's devices the sender knows.
type Audience struct {
	UserID uuid.UUID `json:"userId"`
	// DevicesVersion is that of the list of all devices that the sender knows: from Devices, from
	// Bundles of all devices, or from a DevicesChangedError. Bundles of some do not raise it.
	DevicesVersion int64 `json:"devicesVersion"`
}

// DeviceList is the devices that a user has.
type DeviceList struct {
	// Audience has version 0 when there is no such user, or the user has no device.
	Audience
	// Devices are in the order of their numbers.
	Devices []ListedDevice
}

// ListedDevice is a device in a DeviceList.
type ListedDevice struct {
	ID uuid.UUID
	// Number is 1 to 127: what libsignal calls the device id.
	Number uint32
	// RegistrationID changes when the device is taken over, unless its new owner wants the old one.
	RegistrationID uint32
	// IdentityKey is nil in a DevicesChangedError: the relay does not say it there.
	IdentityKey []byte
}

// DevicesChangedError says that nothing of a batch was stored: audiences have other devices.
// Session.Correct finds out what to do about it.
type DevicesChangedError struct {
	// Lists are the devices of these audiences now.
	Lists []DeviceList
}

// Error implements error.
func (*DevicesChangedError) Error() string {
	return "nothing was stored: an audience has other devices"
}

// NewBatch chooses a key for submissions, once and for all, and ids for those that have none.
func NewBatch(submissions ...Submission) Batch {
	b := Batch{Key: uuid.New(), Submissions: slices.Clone(submissions)}
	for i := range b.Submissions {
		if b.Submissions[i].ID == uuid.Nil {
			b.Submissions[i].ID = uuid.New()
		}
	}
	return b
}

// NewShared makes one body for many, for Batch.Shared, and chooses ids for recipients that have
// none.
func NewShared(message []byte, recipients ...SharedRecipient) SharedSubmission {
	s := SharedSubmission{Message: message, Recipients: slices.Clone(recipients)}
	for i := range s.Recipients {
		if s.Recipients[i].ID == uuid.Nil {
			s.Recipients[i].ID = uuid.New()
		}
	}
	return s
}

// FailedSubmission is a submission that was not stored.
type FailedSubmission struct {
	ID uuid.UUID
	// Code says why. After ERROR_CODE_INVALID_DEVICE drop the libsignal session with this device
	// and fetch the user's bundles.
	Code obscurapb.ErrorCode
	// Message is a sentence for a person.
	Message string
}

// Send sends a batch until there is an answer, or ctx ends. Without an error every submission that
// is not returned is stored durably. After an error the batch may have been stored or not: Send the
// same one again, and what was stored is not stored twice. Returns *DevicesChangedError when
// nothing was stored because an audience has other devices. Codes: idempotency_key_reused,
// too_many_submissions, too_many_recipients, too_many_audiences, prefix_too_large,
// expanded_too_large, body_too_large, device_required, rate_limited.
func (s *Session) Send(ctx context.Context, batch Batch) ([]FailedSubmission, error) {
	if batch.Key == uuid.Nil {
		return nil, errNoKey
	}
	if !batch.eachToken(func(token DeliveryToken) bool { return len(token) == 0 }) {
		return nil, errSealed
	}
	body, err := encode(batch)
	if err != nil {
		return nil, err
	}
	key := batch.Key.String()
	response, err := s.api.SendMessagesWithBody(ctx, &client.SendMessagesParams{IdempotencyKey: &key}, protobuf,
		bytes.NewReader(body))
	var answer obscurapb.SendMessageResponse
	if err := read(response, err, &answer); err != nil {
		return nil, err
	}
	return failures(&answer)
}

// failures are what the answer to a batch says.
func failures(answer *obscurapb.SendMessageResponse) ([]FailedSubmission, error) {
	if len(answer.GetDeviceLists()) > 0 {
		return nil, devicesChanged(answer.GetDeviceLists())
	}
	failed := make([]FailedSubmission, len(answer.GetFailedSubmissions()))
	for i, f := range answer.GetFailedSubmissions() {
		id, err := uuid.FromBytes(f.GetSubmissionId())
		if err != nil {
			return nil, fmt.Errorf("the relay's answer cannot be read: %w", err)
		}
		failed[i] = FailedSubmission{ID: id, Code: f.GetErrorCode(), Message: f.GetErrorMessage()}
	}
	return failed, nil
}

// encode makes the same bytes of the same batch.
func encode(batch Batch) ([]byte, error) {
	request := &obscurapb.SendMessageRequest{}
	for i := range batch.Submissions {
		m := &batch.Submissions[i]
		request.Messages = append(request.Messages,
			&obscurapb.Submission{SubmissionId: m.ID[:], DeviceId: m.DeviceID[:], Message: m.Message,
				Quiet: m.Quiet, DeliveryToken: m.DeliveryToken})
	}
	for i := range batch.Shared {
		shared := &obscurapb.SharedSubmission{Message: batch.Shared[i].Message, Quiet: batch.Shared[i].Quiet}
		for j := range batch.Shared[i].Recipients {
			r := &batch.Shared[i].Recipients[j]
			shared.Recipients = append(shared.Recipients,
				&obscurapb.SharedRecipient{SubmissionId: r.ID[:], DeviceId: r.DeviceID[:], Prefix: r.Prefix,
					DeliveryToken: r.DeliveryToken})
		}
		request.Shared = append(request.Shared, shared)
	}
	for _, a := range batch.Audiences {
		request.Audiences = append(request.Audiences,
			&obscurapb.Audience{UserId: a.UserID[:], DevicesVersion: uint64(a.DevicesVersion)}) //nolint:gosec // positive
	}
	return proto.MarshalOptions{Deterministic: true}.Marshal(request)
}

func devicesChanged(lists []*obscurapb.DeviceList) error {
	e := &DevicesChangedError{}
	for _, l := range lists {
		user, err := uuid.FromBytes(l.GetUserId())
		list := DeviceList{Audience: Audience{user, int64(l.GetDevicesVersion())}} //nolint:gosec // small
		for _, d := range l.GetDevices() {
			id, bad := uuid.FromBytes(d.GetDeviceId())
			err = errors.Join(err, bad)
			list.Devices = append(list.Devices, ListedDevice{ID: id, Number: d.GetDeviceNumber(),
				RegistrationID: d.GetRegistrationId()})
		}
		if err != nil {
			return fmt.Errorf("the relay's answer cannot be read: %w", err)
		}
		e.Lists = append(e.Lists, list)
	}
	return e
}
