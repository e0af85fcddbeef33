package conform

import (
	"net/http"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/obscura-relay/obscura/gen/obscurapb"
)

// sameAnswer fails unless two answers list the same failures.
func (t *try) sameAnswer(first, again *answer) {
	one := &obscurapb.SendMessageResponse{FailedSubmissions: t.failures(first)}
	two := &obscurapb.SendMessageResponse{FailedSubmissions: t.failures(again)}
	t.must(proto.Equal(one, two), "the repeated batch got another answer than the first")
}

var idempotencyChecks = []check{
	{"idempotency.repeated", "A batch that is sent again with its key gets the first answer and stores nothing.",
		func(t *try) {
			sender, d := t.device(), t.device()
			key, body := uuid.NewString(), encode(mail(d.id, "once"), mail(uuid.New(), "to nobody"))
			first := t.submit(sender, key, body)
			t.must(len(t.failures(first)) == 1, "the batch with one bad submission has %d failures", len(t.failures(first)))
			for range 2 {
				t.sameAnswer(first, t.submit(sender, key, body))
			}
			got := len(t.pending(d).envelopes)
			t.must(got == 1, "a batch that was sent three times is stored %d times", got)
		}},
	{"idempotency.concurrent", "Of batches with one key that arrive at once, one is stored, and all get its answer.",
		func(t *try) {
			const rounds, atOnce = 4, 6
			sender, d := t.device(), t.device()
			for range rounds {
				key, body := uuid.NewString(), encode(mail(d.id, "once"))
				t.together(atOnce, func(int) {
					t.must(len(t.failures(t.submit(sender, key, body))) == 0, "one of them failed")
				})
			}
			got := len(t.pending(d).envelopes)
			t.must(got == rounds, "%d batches, each sent %d times at once, are stored %d times", rounds, atOnce, got)
		}},
	{"idempotency.acknowledged", "A key is remembered also after the recipient has acknowledged.", func(t *try) {
		sender, d := t.device(), t.device()
		key, body := uuid.NewString(), encode(mail(d.id, "once"))
		first := t.submit(sender, key, body)
		s := t.connect(d)
		s.drain(true)
		s.leave()
		t.settles(d, 0, "after the acknowledgement")
		t.sameAnswer(first, t.submit(sender, key, body))
		got := t.pending(d)
		t.must(len(got.envelopes) == 0 && got.last == 1, "a batch that was acknowledged and sent again is stored again")
	}},
	{"idempotency.other-body", "The same key with another body is 409 and stores nothing.", func(t *try) {
		sender, d := t.device(), t.device()
		key := uuid.NewString()
		t.must(len(t.failures(t.submit(sender, key, encode(mail(d.id, "one"))))) == 0, "a good batch failed")
		t.submit(sender, key, encode(mail(d.id, "two"))).wantError(http.StatusConflict, "(the same key, another body)")
		got := texts(t.pending(d).envelopes)
		t.must(len(got) == 1 && got[0] == "one", "%d envelopes are stored, want the first alone", len(got))
	}},
	{"idempotency.other-device", "A key belongs to its device: the same key from another device is another batch.",
		func(t *try) {
			one, two, d := t.device(), t.device(), t.device()
			key := uuid.NewString()
			t.must(len(t.failures(t.submit(one, key, encode(mail(d.id, "one"))))) == 0, "a good batch failed")
			t.must(len(t.failures(t.submit(two, key, encode(mail(d.id, "two"))))) == 0,
				"a batch failed whose key another device has used")
			got := len(t.pending(d).envelopes)
			t.must(got == 2, "two devices with one key have stored %d envelopes, want 2", got)
		}},
	{"idempotency.derived", "Without the header the key is made from the submission ids.", func(t *try) {
		sender, d := t.device(), t.device()
		body := encode(mail(d.id, "once"), mail(d.id, "twice"))
		for range 2 {
			t.must(len(t.failures(t.submit(sender, "", body))) == 0, "a good batch failed")
		}
		t.must(len(t.failures(t.submit(sender, "", encode(mail(d.id, "another"))))) == 0, "a good batch failed")
		got := len(t.pending(d).envelopes)
		t.must(got == 3, "a batch of two sent twice, and another one, are stored as %d envelopes, want 3", got)
	}},
}
