package conform

import (
	"fmt"
	"net/http"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/obscura-relay/obscura/gen/obscurapb"
)

// maxSubmissions is how many submissions a request may carry.
const maxSubmissions = 100

// mail makes a submission.
func mail(to uuid.UUID, message string) *obscurapb.Submission {
	id := uuid.New()
	return &obscurapb.Submission{SubmissionId: id[:], DeviceId: to[:], Message: []byte(message)}
}

// encode writes a batch.
func encode(batch ...*obscurapb.Submission) []byte {
	return encodeRequest(&obscurapb.SendMessageRequest{Messages: batch})
}

func encodeRequest(request *obscurapb.SendMessageRequest) []byte {
	body, err := proto.Marshal(request)
	if err != nil {
		panic(err) // bytes always encode
	}
	return body
}

// submit sends an encoded batch; key may be empty.
func (t *try) submit(from *device, key string, body []byte) *answer {
	r := request{method: "POST", path: "/v1/messages", token: from.token, media: protobufMedia, body: body}
	if key != "" {
		r.header = map[string]string{"Idempotency-Key": key}
	}
	return t.send(r)
}

// sent reads a SendMessageResponse.
func (t *try) sent(a *answer) *obscurapb.SendMessageResponse {
	a.want(http.StatusOK, "(send)")
	var response obscurapb.SendMessageResponse
	t.must(proto.Unmarshal(a.body, &response) == nil, "%s: the answer is not a SendMessageResponse", a.asked)
	return &response
}

// failures reads the failures of a SendMessageResponse.
func (t *try) failures(a *answer) []*obscurapb.FailedSubmission {
	return t.sent(a).GetFailedSubmissions()
}

// post sends a batch with a key of its own and expects that all is stored.
func (t *try) post(from *device, batch ...*obscurapb.Submission) {
	failed := t.failures(t.submit(from, uuid.NewString(), encode(batch...)))
	t.must(len(failed) == 0, "%d of %d good submissions were refused", len(failed), len(batch))
}

// postMany sends n messages "name 0", "name 1" and so on, in full batches.
func (t *try) postMany(from, to *device, name string, n int) {
	for sent := 0; sent < n; {
		var batch []*obscurapb.Submission
		for ; sent < n && len(batch) < maxSubmissions; sent++ {
			batch = append(batch, mail(to.id, fmt.Sprintf("%s %d", name, sent)))
		}
		t.post(from, batch...)
	}
}

// texts are the messages of envelopes.
func texts(envelopes []*obscurapb.Envelope) []string {
	all := []string{}
	for _, e := range envelopes {
		all = append(all, string(e.GetMessage()))
	}
	return all
}

// inOrder fails unless the envelopes have the sequences first, first+1 and so on.
func (t *try) inOrder(envelopes []*obscurapb.Envelope, first uint64) {
	for i, e := range envelopes {
		want := first + uint64(i)
		t.must(e.GetSequence() == want, "envelope %d has sequence %d, want %d", i+1, e.GetSequence(), want)
	}
}
