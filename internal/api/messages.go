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
	var invalid []int16
	// Without a key of its own a batch with nothing to store needs no receipt, and must not have
	// one: all batches whose submission ids are missing have the same derived key.
	if len(batch.Submissions) > 0 || r.Params.IdempotencyKey != nil {
		if invalid, err = s.cfg.Mailbox.Send(ctx, principal(ctx), batch); err != nil {
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
	for n, rest := 0, body; len(rest) > 0; {
		number, _, size := protowire.ConsumeField(rest)
		if size < 0 {
			return nil, errProtobuf
		}
		if rest = rest[size:]; number == submissionsField {
			n++
		}
		if n > core.MaxSubmissions {
			return nil, errManySubmission
		}
	}
	var request obscurapb.SendMessageRequest
	if err := proto.Unmarshal(body, &request); err != nil {
		return nil, errProtobuf
	}
	return &request, nil
}

// submissionsField is the number of SendMessageRequest.messages.
const submissionsField = 1

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
}

func failure(m *obscurapb.Submission, code obscurapb.ErrorCode) *obscurapb.FailedSubmission {
	f := &obscurapb.FailedSubmission{ErrorCode: code, ErrorMessage: failures[code]}
	if code != obscurapb.ErrorCode_ERROR_CODE_MALFORMED_SUBMISSION_ID {
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
