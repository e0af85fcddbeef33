package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"

	"github.com/google/uuid"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/obscura-relay/obscura/gen/api"
	"github.com/obscura-relay/obscura/gen/obscurapb"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/core/mailbox"
)

var (
	errProtobuf       = core.NewError(core.Invalid, "invalid_protobuf", "The body is not a valid SendMessageRequest.")
	errManySubmission = core.NewError(core.TooLarge, "too_many_submissions",
		"A request carries at most 100 submissions.")
	errManyRecipients = core.NewError(core.TooLarge, "too_many_recipients",
		"The shared submissions of a request have at most 1000 recipients.")
	errExpanded = core.NewError(core.TooLarge, "expanded_too_large",
		"The shared submissions of a request expand to at most 4 MiB.")
	errPrefix        = core.NewError(core.Invalid, "prefix_too_large", "A recipient's prefix is at most 256 bytes.")
	errManyAudiences = core.NewError(core.TooLarge, "too_many_audiences", "A request names at most 100 audiences.")
	errAudience      = core.NewError(core.Invalid, "invalid_audience", "The user id of an audience is not 16 bytes.")
)

// SendMessages stores a batch of envelopes.
func (s *server) SendMessages(ctx context.Context, r api.SendMessagesRequestObject) (api.SendMessagesResponseObject,
	error) {
	// The body points into a buffer that is used again; decoding copies what is kept.
	var body lent
	if _, err := io.Copy(&body, r.Body); err != nil {
		return nil, err
	}
	request, err := decodeSend(body)
	if err != nil {
		return nil, err
	}
	all, err := expand(request)
	if err != nil {
		return nil, err
	}
	if err := s.throttleMany(principal(ctx), len(all)); err != nil {
		return nil, err
	}
	key := derivedKey(all)
	if r.Params.IdempotencyKey != nil {
		if key, err = uuid.Parse(*r.Params.IdempotencyKey); err != nil { // it is empty: the guard has seen the rest
			return nil, errParameter("Idempotency-Key")
		}
	}
	batch, outcomes, positions := submissions(all)
	batch.Key, batch.Digest = key, sha256.Sum256(body)
	if batch.Audiences, err = audiences(request); err != nil {
		return nil, err
	}
	// All batches whose submission ids are missing have the same derived key.
	if len(batch.Submissions) == 0 && r.Params.IdempotencyKey == nil {
		batch.Key = uuid.New()
	}
	var invalid []int16
	if len(batch.Submissions) > 0 || r.Params.IdempotencyKey != nil || len(batch.Audiences) > 0 {
		invalid, err = s.cfg.Mailbox.Send(ctx, principal(ctx), batch)
		var changed *mailbox.ChangedError
		if errors.As(err, &changed) {
			return sendAnswer(changedResponse(outcomes, changed.Lists))
		}
		if err != nil {
			return nil, err
		}
	}
	for _, position := range invalid {
		outcomes[positions[position]].code = obscurapb.ErrorCode_ERROR_CODE_INVALID_DEVICE
	}
	response := &obscurapb.SendMessageResponse{}
	for _, o := range outcomes {
		if o.code != obscurapb.ErrorCode_ERROR_CODE_UNSPECIFIED {
			response.FailedSubmissions = append(response.FailedSubmissions, failure(o))
		}
	}
	return sendAnswer(response)
}

func sendAnswer(response *obscurapb.SendMessageResponse) (api.SendMessagesResponseObject, error) {
	out, err := proto.Marshal(response)
	if err != nil {
		return nil, errors.Join(errors.New("cannot encode the answer"), err)
	}
	return api.SendMessages200ApplicationXProtobufResponse{Body: bytes.NewReader(out), ContentLength: int64(len(out))},
		nil
}

// lent takes the bytes of a bytes.Reader, which writes all of them at once, without a copy. They
// belong to the request and must not outlive it.
type lent []byte

// Write implements io.Writer.
func (l *lent) Write(p []byte) (int, error) {
	if *l == nil {
		*l = p
	} else {
		*l = append((*l)[:len(*l):len(*l)], p...)
	}
	return len(p), nil
}

// The numbers of the repeated fields of SendMessageRequest, and of SharedSubmission.recipients.
const (
	submissionsField = 1
	sharedField      = 2
	audiencesField   = 3
	recipientsField  = 2
)

// decodeSend decodes a request. It counts first: two megabytes hold a million empty submissions,
// which take fifty times their size when they are decoded.
func decodeSend(body []byte) (*obscurapb.SendMessageRequest, error) {
	var submissions, recipients, audiences int
	bad := eachField(body, func(number protowire.Number, value []byte) error {
		switch number {
		case submissionsField:
			submissions++
		case audiencesField:
			audiences++
		case sharedField:
			recipients++ // one without recipients takes memory too
			if content, size := protowire.ConsumeBytes(value); size >= 0 {
				_ = eachField(content, func(number protowire.Number, _ []byte) error { // decoding finds what is wrong
					if number == recipientsField {
						recipients++
					}
					return nil
				})
			}
		}
		switch {
		case submissions > core.MaxSubmissions:
			return errManySubmission
		case recipients > 2*core.MaxRecipients: // with the shared submissions themselves
			return errManyRecipients
		case audiences > core.MaxAudiences:
			return errManyAudiences
		}
		return nil
	})
	if bad != nil {
		return nil, bad
	}
	var request obscurapb.SendMessageRequest
	if err := proto.Unmarshal(body, &request); err != nil {
		return nil, errProtobuf
	}
	return &request, nil
}

// eachField calls with the fields of an encoded message, one by one, and their encoded values.
func eachField(message []byte, call func(number protowire.Number, value []byte) error) error {
	for len(message) > 0 {
		number, kind, tag := protowire.ConsumeTag(message)
		if tag < 0 {
			return errProtobuf
		}
		size := protowire.ConsumeFieldValue(number, kind, message[tag:])
		if size < 0 {
			return errProtobuf
		}
		if err := call(number, message[tag:tag+size]); err != nil {
			return err
		}
		message = message[tag+size:]
	}
	return nil
}

// submission is one of a request's own, or that of a recipient of a shared one.
type submission struct {
	id, device []byte
	// prefix comes before message, which the recipients of a shared submission have in common. They
	// are joined only when they are stored: see mailbox.Submission.
	prefix, message []byte
}

func (s *submission) size() int { return len(s.prefix) + len(s.message) }

// expand returns the submissions of a request, with one for each recipient of its shared ones. It
// copies no message.
func expand(request *obscurapb.SendMessageRequest) ([]submission, error) {
	recipients, size := 0, 0
	for _, shared := range request.GetShared() {
		for _, r := range shared.GetRecipients() {
			if len(r.GetPrefix()) > core.MaxPrefix {
				return nil, errPrefix
			}
			recipients++
			size += len(r.GetPrefix()) + len(shared.GetMessage())
		}
	}
	switch {
	case recipients > core.MaxRecipients:
		return nil, errManyRecipients
	case size > core.MaxExpanded:
		return nil, errExpanded
	}
	all := make([]submission, 0, len(request.GetMessages())+recipients)
	for _, m := range request.GetMessages() {
		all = append(all, submission{id: m.GetSubmissionId(), device: m.GetDeviceId(), message: m.GetMessage()})
	}
	for _, shared := range request.GetShared() {
		for _, r := range shared.GetRecipients() {
			all = append(all, submission{r.GetSubmissionId(), r.GetDeviceId(), r.GetPrefix(), shared.GetMessage()})
		}
	}
	return all, nil
}

func audiences(request *obscurapb.SendMessageRequest) ([]mailbox.Audience, error) {
	var out []mailbox.Audience
	for _, a := range request.GetAudiences() {
		if len(a.GetUserId()) != len(uuid.UUID{}) {
			return nil, errAudience
		}
		out = append(out, mailbox.Audience{User: uuid.UUID(a.GetUserId()), Version: a.GetDevicesVersion()})
	}
	return out, nil
}

// changedResponse is the answer to a request of which nothing is stored: some audiences have other
// devices.
func changedResponse(outcomes []outcome, changed []mailbox.DeviceList) *obscurapb.SendMessageResponse {
	response := &obscurapb.SendMessageResponse{}
	for _, o := range outcomes {
		response.FailedSubmissions = append(response.FailedSubmissions,
			failure(outcome{o.id, obscurapb.ErrorCode_ERROR_CODE_DEVICE_LIST_CHANGED}))
	}
	for _, list := range changed {
		out := &obscurapb.DeviceList{UserId: list.User[:], DevicesVersion: list.Version}
		for _, d := range list.Devices {
			out.Devices = append(out.Devices, &obscurapb.DeviceList_Device{DeviceId: d.ID[:],
				DeviceNumber: uint32(d.Number), RegistrationId: uint32(d.RegistrationID)}) //nolint:gosec // positive
		}
		response.DeviceLists = append(response.DeviceLists, out)
	}
	return response
}

// outcome says what became of a submission; UNSPECIFIED: it is stored. This is all that is kept of
// one whose form is wrong while the others wait: it may have come in two bytes.
type outcome struct {
	id   []byte
	code obscurapb.ErrorCode
}

// submissions sorts out the submissions whose form is right; positions leads back to the request.
func submissions(all []submission) (batch mailbox.Batch, outcomes []outcome, positions []int) {
	outcomes = make([]outcome, len(all))
	for i := range all {
		m := &all[i]
		code := obscurapb.ErrorCode_ERROR_CODE_UNSPECIFIED
		switch {
		case len(m.id) != len(uuid.UUID{}):
			code = obscurapb.ErrorCode_ERROR_CODE_MALFORMED_SUBMISSION_ID
		case len(m.device) != len(uuid.UUID{}):
			code = obscurapb.ErrorCode_ERROR_CODE_MALFORMED_DEVICE_ID
		case m.size() == 0:
			code = obscurapb.ErrorCode_ERROR_CODE_MESSAGE_MISSING
		case m.size() > core.MaxMessage:
			code = obscurapb.ErrorCode_ERROR_CODE_MESSAGE_TOO_LARGE
		}
		outcomes[i] = outcome{m.id, code}
		if code != obscurapb.ErrorCode_ERROR_CODE_UNSPECIFIED {
			continue
		}
		batch.Submissions = append(batch.Submissions,
			mailbox.Submission{Device: uuid.UUID(m.device), Prefix: m.prefix, Message: m.message})
		positions = append(positions, i)
	}
	return batch, outcomes, positions
}

var failures = map[obscurapb.ErrorCode]string{
	obscurapb.ErrorCode_ERROR_CODE_INVALID_DEVICE:          "There is no such device.",
	obscurapb.ErrorCode_ERROR_CODE_MALFORMED_DEVICE_ID:     "The device id is not 16 bytes.",
	obscurapb.ErrorCode_ERROR_CODE_MALFORMED_SUBMISSION_ID: "The submission id is not 16 bytes.",
	obscurapb.ErrorCode_ERROR_CODE_MESSAGE_MISSING:         "The message is empty.",
	obscurapb.ErrorCode_ERROR_CODE_MESSAGE_TOO_LARGE:       "The message is longer than 256 KiB.",
	obscurapb.ErrorCode_ERROR_CODE_DEVICE_LIST_CHANGED:     "An audience has other devices: see device_lists.",
}

func failure(o outcome) *obscurapb.FailedSubmission {
	f := &obscurapb.FailedSubmission{ErrorCode: o.code, ErrorMessage: failures[o.code]}
	if len(o.id) == len(uuid.UUID{}) {
		f.SubmissionId = o.id
	}
	return f
}

// derivedKey makes an idempotency key from the submission ids of a batch, as a version 8 UUID
// (RFC 9562), so that a derived key is never taken for a client's own.
func derivedKey(all []submission) uuid.UUID {
	h := sha256.New()
	var length [4]byte
	for i := range all {
		binary.BigEndian.PutUint32(length[:], uint32(len(all[i].id))) //nolint:gosec // below 2 MiB
		h.Write(length[:])
		h.Write(all[i].id)
	}
	key := uuid.UUID(h.Sum(nil)[:16])
	key[6], key[8] = 0x80|key[6]&0x0f, 0x80|key[8]&0x3f
	return key
}
