package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"slices"

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
	errNamedToken    = core.NewError(core.Invalid, "identified_request",
		"A submission with a delivery token goes to POST /v1/messages/sealed, without an access token.")
	errAudience = core.NewError(core.Invalid, "invalid_audience", "The user id of an audience is not 16 bytes.")
)

// SendMessages stores a batch of envelopes.
func (s *server) SendMessages(ctx context.Context, r api.SendMessagesRequestObject) (api.SendMessagesResponseObject,
	error) {
	out, err := s.send(ctx, r.Body, r.Params.IdempotencyKey, false)
	return api.SendMessages200ApplicationXProtobufResponse{Body: bytes.NewReader(out), ContentLength: int64(len(out))},
		err
}

// SendSealedMessages stores a batch of envelopes without knowing who sends it.
func (s *server) SendSealedMessages(ctx context.Context,
	r api.SendSealedMessagesRequestObject) (api.SendSealedMessagesResponseObject, error) {
	out, err := s.send(ctx, r.Body, &r.Params.IdempotencyKey, true)
	return api.SendSealedMessages200ApplicationXProtobufResponse{Body: bytes.NewReader(out),
		ContentLength: int64(len(out))}, err
}

// send stores a request and returns its encoded answer.
func (s *server) send(ctx context.Context, in io.Reader, idempotencyKey *string, sealed bool) ([]byte, error) {
	// The body points into a buffer that is used again; decoding copies what is kept.
	var body lent
	if _, err := io.Copy(&body, in); err != nil {
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
	operation := "sendMessages"
	if sealed {
		operation = sealedSends
	} else if shows(all) {
		return nil, errNamedToken
	}
	if err := s.throttleMany(callerOf(ctx), operation, len(all)); err != nil {
		return nil, err
	}
	var key uuid.UUID
	if idempotencyKey == nil {
		key = derivedKey(all)
	} else if key, err = uuid.Parse(*idempotencyKey); err != nil { // it is empty: the guard has seen the rest
		return nil, errParameter("Idempotency-Key")
	}
	batch, outcomes, positions := submissions(all, sealed)
	batch.Key, batch.Digest = key, sha256.Sum256(body)
	if batch.Audiences, err = audiences(request); err != nil {
		return nil, err
	}
	// All batches whose submission ids are missing have the same derived key.
	if len(batch.Submissions) == 0 && idempotencyKey == nil {
		batch.Key = uuid.New()
	}
	var invalid []int16
	missing := obscurapb.ErrorCode_ERROR_CODE_INVALID_DEVICE
	if len(batch.Submissions) > 0 || idempotencyKey != nil || len(batch.Audiences) > 0 {
		if sealed {
			missing = obscurapb.ErrorCode_ERROR_CODE_REFUSED
			invalid, err = s.sendSealed(ctx, batch)
		} else {
			invalid, err = s.cfg.Mailbox.Send(ctx, principal(ctx), batch)
		}
		var changed *mailbox.ChangedError
		if errors.As(err, &changed) {
			return proto.Marshal(changedResponse(outcomes, changed.Lists))
		}
		if err != nil {
			return nil, err
		}
	}
	for _, position := range invalid {
		outcomes[positions[position]].code = missing
	}
	response := &obscurapb.SendMessageResponse{}
	for _, o := range outcomes {
		if o.code != obscurapb.ErrorCode_ERROR_CODE_UNSPECIFIED {
			response.FailedSubmissions = append(response.FailedSubmissions, failure(o))
		}
	}
	return proto.Marshal(response)
}

// sendSealed stores a batch of an unknown sender. A request of which something is refused counts
// among those whose credential is not valid, once.
func (s *server) sendSealed(ctx context.Context, batch mailbox.Batch) (refused []int16, err error) {
	if err := s.throttleTokens(&batch); err != nil {
		return nil, err
	}
	address := callerOf(ctx).address
	if s.cfg.Limits != nil {
		if wait := s.cfg.Limits.credentials.Take(address); wait > 0 {
			return nil, limited(wait)
		}
		defer func() {
			if len(refused) == 0 {
				s.cfg.Limits.credentials.GiveBack(address)
			}
		}()
	}
	return s.cfg.Mailbox.SendSealed(ctx, batch)
}

// shows reports whether a submission shows a delivery token.
func shows(all []submission) bool {
	return slices.ContainsFunc(all, func(m submission) bool { return len(m.token) > 0 })
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
	// token is a delivery token, in a sealed request.
	token []byte
	quiet bool
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
		all = append(all, submission{id: m.GetSubmissionId(), device: m.GetDeviceId(), message: m.GetMessage(),
			token: m.GetDeliveryToken(), quiet: m.GetQuiet()})
	}
	for _, shared := range request.GetShared() {
		for _, r := range shared.GetRecipients() {
			all = append(all, submission{r.GetSubmissionId(), r.GetDeviceId(), r.GetPrefix(), shared.GetMessage(),
				r.GetDeliveryToken(), shared.GetQuiet()})
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
func submissions(all []submission, sealed bool) (batch mailbox.Batch, outcomes []outcome, positions []int) {
	outcomes = make([]outcome, len(all))
	for i := range all {
		m := &all[i]
		code := obscurapb.ErrorCode_ERROR_CODE_UNSPECIFIED
		switch {
		case len(m.id) != len(uuid.UUID{}):
			code = obscurapb.ErrorCode_ERROR_CODE_MALFORMED_SUBMISSION_ID
		case len(m.device) != len(uuid.UUID{}):
			code = obscurapb.ErrorCode_ERROR_CODE_MALFORMED_DEVICE_ID
		case sealed && len(m.token) != core.DeliveryTokenBytes:
			code = obscurapb.ErrorCode_ERROR_CODE_REFUSED
		case m.size() == 0:
			code = obscurapb.ErrorCode_ERROR_CODE_MESSAGE_MISSING
		case m.size() > core.MaxMessage:
			code = obscurapb.ErrorCode_ERROR_CODE_MESSAGE_TOO_LARGE
		}
		outcomes[i] = outcome{m.id, code}
		if code != obscurapb.ErrorCode_ERROR_CODE_UNSPECIFIED {
			continue
		}
		submission := mailbox.Submission{Device: uuid.UUID(m.device), Prefix: m.prefix, Message: m.message,
			Quiet: m.quiet}
		if sealed {
			submission.Token = sha256.Sum256(m.token)
		}
		batch.Submissions = append(batch.Submissions, submission)
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
	obscurapb.ErrorCode_ERROR_CODE_REFUSED:                 "The delivery token does not open a device of this id.",
	obscurapb.ErrorCode_ERROR_CODE_DEVICE_LIST_CHANGED:     "An audience has other devices: see device_lists.",
}

func failure(o outcome) *obscurapb.FailedSubmission {
	f := &obscurapb.FailedSubmission{ErrorCode: o.code, ErrorMessage: failures[o.code]}
	if len(o.id) == len(uuid.UUID{}) {
		f.SubmissionId = o.id
	}
	return f
}

// derivedKey makes an idempotency key from the submission ids of a batch. It is never taken for a
// client's own: see core.HashID.
func derivedKey(all []submission) uuid.UUID {
	h := sha256.New()
	var length [4]byte
	for i := range all {
		binary.BigEndian.PutUint32(length[:], uint32(len(all[i].id))) //nolint:gosec // below 2 MiB
		h.Write(length[:])
		h.Write(all[i].id)
	}
	return core.HashID(h.Sum(nil))
}
