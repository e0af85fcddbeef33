package conform

import (
	"bytes"
	"net/http"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/gen/obscurapb"
)

const (
	maxMessage = 256 << 10
	noError    = obscurapb.ErrorCode_ERROR_CODE_UNSPECIFIED
)

var messageChecks = []check{
	{"messages.envelope", "An envelope names its sender, user, device and number, and carries the message as it was, with id, time and sequence.", func(t *try) {
		sender, d := t.device(), t.device()
		t.post(sender, mail(d.id, "first\x00\xff"), mail(d.id, "second"))
		got := t.pending(d).envelopes
		t.must(len(got) == 2, "%d envelopes arrive, want 2", len(got))
		e := got[0]
		t.must(string(e.GetMessage()) == "first\x00\xff", "the message has changed")
		t.must(bytes.Equal(e.GetSenderId(), sender.user.id[:]), "sender_id is not the sending user")
		t.must(bytes.Equal(e.GetSenderDeviceId(), sender.id[:]), "sender_device_id is not the sending device")
		t.must(e.GetSenderDeviceNumber() == uint32(sender.number), "sender_device_number is not the sending device's")
		t.must(len(e.GetId()) == 16 && !bytes.Equal(e.GetId(), got[1].GetId()), "id is not 16 bytes of its own")
		t.must(near(time.UnixMilli(int64(e.GetTimestamp())), time.Now()),
			"timestamp is not the present in milliseconds")
		t.must(e.GetSequence() == 1 && got[1].GetSequence() == 2, "the first sequences are not 1 and 2")
	}},
	{"messages.failures", "Each bad submission of a batch fails with its own code; the good ones beside it are stored.",
		batchFailures},
	{"messages.largest", "A message of 256 KiB is carried as it is.", func(t *try) {
		sender, d := t.device(), t.device()
		large := bytes.Repeat([]byte("0123456789abcdef"), maxMessage/16)
		t.post(sender, mail(d.id, string(large)))
		got := t.pending(d).envelopes
		t.must(len(got) == 1 && bytes.Equal(got[0].GetMessage(), large),
			"a message of 256 KiB does not arrive as it was")
	}},
	{"messages.too-many", "A request carries at most 100 submissions; 101 are 413, and nothing is stored.",
		func(t *try) {
			sender, d := t.device(), t.device()
			var batch []*obscurapb.Submission
			for range maxSubmissions + 1 {
				batch = append(batch, mail(d.id, "many"))
			}
			t.submit(sender, "", encode(batch...)).wantError(http.StatusRequestEntityTooLarge, "(101 submissions)")
			got := len(t.pending(d).envelopes)
			t.must(got == 0, "%d submissions of a request that was refused were stored", got)
			t.post(sender, batch[1:]...)
			got = len(t.pending(d).envelopes)
			t.must(got == maxSubmissions, "%d of 100 submissions arrive", got)
		}},
	{"messages.shared-body", "A body that is shared comes to each recipient behind the prefix of its own, in order, behind the submissions.",
		func(t *try) {
			sender, one, two := t.device(), t.device(), t.device()
			id := uuid.New()
			answer := t.sent(t.submit(sender, uuid.NewString(), encodeRequest(&obscurapb.SendMessageRequest{
				Messages: []*obscurapb.Submission{mail(one.id, "alone")},
				Shared: []*obscurapb.SharedSubmission{{Message: []byte("body"), Recipients: []*obscurapb.SharedRecipient{
					{SubmissionId: id[:], DeviceId: two.id[:], Prefix: []byte("two, ")},
					{SubmissionId: id[:], DeviceId: one.id[:]},
					{SubmissionId: id[:], DeviceId: one.id[:], Prefix: []byte("one, ")},
				}}},
			})))
			t.must(len(answer.GetFailedSubmissions()) == 0, "%d good submissions were refused",
				len(answer.GetFailedSubmissions()))
			t.must(slices.Equal(texts(t.pending(one).envelopes), []string{"alone", "body", "one, body"}) &&
				slices.Equal(texts(t.pending(two).envelopes), []string{"two, body"}), "other messages arrive")
		}},
	{"messages.quiet", "Quiet mail is delivered in its place, to a device that is connected and to one that comes later.",
		quietMail},
	{"messages.shared-id", "Two submissions to two devices may share a submission_id: both are stored.", func(t *try) {
		sender, one, two := t.device(), t.device(), t.device()
		first, second := mail(one.id, "shared"), mail(two.id, "shared")
		second.SubmissionId = first.GetSubmissionId()
		t.post(sender, first, second)
		for _, d := range []*device{one, two} {
			t.must(len(t.pending(d).envelopes) == 1, "a submission that shares its id is not delivered once")
		}
	}},
}

func batchFailures(t *try) {
	sender, d := t.device(), t.device()
	malformedID, malformedDevice, missing := mail(d.id, "x"), mail(d.id, "x"), mail(d.id, "")
	malformedID.SubmissionId = malformedID.GetSubmissionId()[:15]
	malformedDevice.DeviceId = append(malformedDevice.GetDeviceId(), 0)
	cases := []struct {
		submission *obscurapb.Submission
		code       obscurapb.ErrorCode
	}{
		{mail(d.id, "good 1"), noError},
		{mail(uuid.New(), "x"), obscurapb.ErrorCode_ERROR_CODE_INVALID_DEVICE},
		{malformedDevice, obscurapb.ErrorCode_ERROR_CODE_MALFORMED_DEVICE_ID},
		{malformedID, obscurapb.ErrorCode_ERROR_CODE_MALFORMED_SUBMISSION_ID},
		{missing, obscurapb.ErrorCode_ERROR_CODE_MESSAGE_MISSING},
		{mail(d.id, string(make([]byte, maxMessage+1))), obscurapb.ErrorCode_ERROR_CODE_MESSAGE_TOO_LARGE},
		{mail(d.id, "good 2"), noError},
	}
	var batch []*obscurapb.Submission
	for _, c := range cases {
		batch = append(batch, c.submission)
	}
	failed := t.failures(t.submit(sender, uuid.NewString(), encode(batch...)))
	for _, c := range cases {
		i := slices.IndexFunc(failed, func(f *obscurapb.FailedSubmission) bool {
			if c.submission == malformedID { // what is malformed is not repeated
				return f.GetErrorCode() == c.code
			}
			return bytes.Equal(f.GetSubmissionId(), c.submission.GetSubmissionId())
		})
		if c.code == noError {
			t.must(i < 0, "a good submission is listed as failed")
			continue
		}
		t.must(i >= 0, "a submission that must fail with %v is not listed", c.code)
		t.must(failed[i].GetErrorCode() == c.code, "a submission fails with %v, want %v", failed[i].GetErrorCode(),
			c.code)
	}
	got := texts(t.pending(d).envelopes)
	t.must(slices.Equal(got, []string{"good 1", "good 2"}),
		"%d envelopes arrive, want the two good ones in their order", len(got))
}

func quietMail(t *try) {
	sender, here, later := t.device(), t.device(), t.device()
	s := t.connect(here)
	s.drain(false)
	quiet := func(to *device) *obscurapb.Submission {
		m := mail(to.id, "quiet")
		m.Quiet = true
		return m
	}
	id := uuid.New()
	shared := func(to *device) *obscurapb.SharedRecipient {
		return &obscurapb.SharedRecipient{SubmissionId: id[:], DeviceId: to.id[:]}
	}
	answer := t.sent(t.submit(sender, uuid.NewString(), encodeRequest(&obscurapb.SendMessageRequest{
		Messages: []*obscurapb.Submission{quiet(here), quiet(later), mail(here.id, "loud"), mail(later.id, "loud")},
		Shared: []*obscurapb.SharedSubmission{{Message: []byte("shared"), Quiet: true,
			Recipients: []*obscurapb.SharedRecipient{shared(here), shared(later)}}},
	})))
	t.must(len(answer.GetFailedSubmissions()) == 0, "%d good submissions were refused",
		len(answer.GetFailedSubmissions()))
	want := []string{"quiet", "loud", "shared"}
	t.must(slices.Equal(texts(s.envelopes(len(want), "quiet mail")), want) &&
		slices.Equal(texts(t.pending(later).envelopes), want), "other messages arrive")
}
