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
	key := derivedKey(request)
	if r.Params.IdempotencyKey != nil {
		if key, err = uuid.Parse(*r.Params.IdempotencyKey); err != nil { // it is empty: the guard has seen the rest
			return nil, errParameter("Idempotency-Key")
		}
	}
	batch, failed, positions := submissions(request)
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
			return sendAnswer(changedResponse(request, changed.Lists))
		}
		if err != nil {
			return nil, err
		}
	}
	for _, position := range invalid {
		submission := request.GetMessages()[positions[position]]
		failed[positions[position]] = failure(submission, obscurapb.ErrorCode_ERROR_CODE_INVALID_DEVICE)
	}
	response := &obscurapb.SendMessageResponse{}
	for i := range request.GetMessages() {
		if failed[i] != nil {
			response.FailedSubmissions = append(response.FailedSubmissions, failed[i])
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

// decodeSend decodes a request. It counts first: two megabytes hold a million empty submissions,
// which take fifty times their size when they are decoded.
func decodeSend(body []byte) (*obscurapb.SendMessageRequest, error) {
	submissions, audiences := 0, 0
	for rest := body; len(rest) > 0; {
		number, _, size := protowire.ConsumeField(rest)
		if size < 0 {
			return nil, errProtobuf
		}
		rest = rest[size:]
		switch number {
		case submissionsField:
			submissions++
		case audiencesField:
			audiences++
		}
		if submissions > core.MaxSubmissions {
			return nil, errManySubmission
		}
		if audiences > core.MaxAudiences {
			return nil, errManyAudiences
		}
	}
	var request obscurapb.SendMessageRequest
	if err := proto.Unmarshal(body, &request); err != nil {
		return nil, errProtobuf
	}
	return &request, nil
}

// The numbers of SendMessageRequest.messages and SendMessageRequest.audiences.
const (
	submissionsField = 1
	audiencesField   = 3
)

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
func changedResponse(
	request *obscurapb.SendMessageRequest,
	changed []mailbox.DeviceList,
) *obscurapb.SendMessageResponse {
	response := &obscurapb.SendMessageResponse{}
	for _, m := range request.GetMessages() {
		response.FailedSubmissions = append(response.FailedSubmissions,
			failure(m, obscurapb.ErrorCode_ERROR_CODE_DEVICE_LIST_CHANGED))
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

// submissions sorts out the submissions whose form is right; positions leads back to the request.
func submissions(request *obscurapb.SendMessageRequest) (batch mailbox.Batch,
	failed map[int]*obscurapb.FailedSubmission, positions []int) {
	failed = map[int]*obscurapb.FailedSubmission{}
	for i, m := range request.GetMessages() {
		code := obscurapb.ErrorCode_ERROR_CODE_UNSPECIFIED
		switch {
		case len(m.GetSubmissionId()) != len(uuid.UUID{}):
			code = obscurapb.ErrorCode_ERROR_CODE_MALFORMED_SUBMISSION_ID
		case len(m.GetDeviceId()) != len(uuid.UUID{}):
			code = obscurapb.ErrorCode_ERROR_CODE_MALFORMED_DEVICE_ID
		case len(m.GetMessage()) == 0:
			code = obscurapb.ErrorCode_ERROR_CODE_MESSAGE_MISSING
		case len(m.GetMessage()) > core.MaxMessage:
			code = obscurapb.ErrorCode_ERROR_CODE_MESSAGE_TOO_LARGE
		}
		if code != obscurapb.ErrorCode_ERROR_CODE_UNSPECIFIED {
			failed[i] = failure(m, code)
			continue
		}
		batch.Submissions = append(batch.Submissions,
			mailbox.Submission{Device: uuid.UUID(m.GetDeviceId()), Message: m.GetMessage()})
		positions = append(positions, i)
	}
	return batch, failed, positions
}

var failures = map[obscurapb.ErrorCode]string{
	obscurapb.ErrorCode_ERROR_CODE_INVALID_DEVICE:          "There is no such device.",
	obscurapb.ErrorCode_ERROR_CODE_MALFORMED_DEVICE_ID:     "The device id is not 16 bytes.",
	obscurapb.ErrorCode_ERROR_CODE_MALFORMED_SUBMISSION_ID: "The submission id is not 16 bytes.",
	obscurapb.ErrorCode_ERROR_CODE_MESSAGE_MISSING:         "The message is empty.",
	obscurapb.ErrorCode_ERROR_CODE_MESSAGE_TOO_LARGE:       "The message is longer than 256 KiB.",
	obscurapb.ErrorCode_ERROR_CODE_DEVICE_LIST_CHANGED:     "An audience has other devices: see device_lists.",
}

func failure(m *obscurapb.Submission, code obscurapb.ErrorCode) *obscurapb.FailedSubmission {
	f := &obscurapb.FailedSubmission{ErrorCode: code, ErrorMessage: failures[code]}
	if len(m.GetSubmissionId()) == len(uuid.UUID{}) {
		f.SubmissionId = m.GetSubmissionId()
	}
	return f
}

// derivedKey makes an idempotency key from the submission ids of a batch, as a version 8 UUID
// (RFC 9562), so that a derived key is never taken for a client's own.
func derivedKey(request *obscurapb.SendMessageRequest) uuid.UUID {
	h := sha256.New()
	var length [4]byte
	for _, m := range request.GetMessages() {
		binary.BigEndian.PutUint32(length[:], uint32(len(m.GetSubmissionId()))) //nolint:gosec // below 2 MiB
		h.Write(length[:])
		h.Write(m.GetSubmissionId())
	}
	key := uuid.UUID(h.Sum(nil)[:16])
	key[6], key[8] = 0x80|key[6]&0x0f, 0x80|key[8]&0x3f
	return key
}
