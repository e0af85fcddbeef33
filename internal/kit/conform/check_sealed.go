package conform

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net/http"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/gen/client"
	"github.com/obscura-relay/obscura/gen/obscurapb"
)

const (
	tokensPath = "/v1/delivery-tokens"
	sealedPath = "/v1/messages/sealed"
)

// deliveryToken makes a token.
func deliveryToken() []byte {
	token := make([]byte, 32)
	_, _ = rand.Read(token) // it does not fail
	return token
}

func hashOf(token []byte) []byte {
	sum := sha256.Sum256(token)
	return sum[:]
}

// opened makes a token and adds it for the device's user.
func (t *try) opened(d *device) []byte {
	token := deliveryToken()
	a := t.call("POST", tokensPath, d.token,
		client.DeliveryTokenChange{Add: []client.NewDeliveryToken{{Hash: hashOf(token)}}})
	t.offered(a)
	a.want(http.StatusOK, "")
	return token
}

func (t *try) closed(d *device, token []byte) {
	t.call("POST", tokensPath, d.token, client.DeliveryTokenChange{Remove: [][]byte{hashOf(token)}}).
		want(http.StatusOK, "")
}

// tokensOf are the hashes that the relay lists.
func (t *try) tokensOf(d *device) (hashes [][]byte) {
	for _, token := range into[client.DeliveryTokens](t.call("GET", tokensPath, d.token, nil).
		want(http.StatusOK, "")).Tokens {
		hashes = append(hashes, token.Hash)
	}
	return hashes
}

// submitSealed sends an encoded batch unnamed; key may be empty.
func (t *try) submitSealed(key string, body []byte) *answer {
	r := request{method: "POST", path: sealedPath, media: protobufMedia, body: body}
	if key != "" {
		r.header = map[string]string{"Idempotency-Key": key}
	}
	return t.send(r)
}

func sealed(to uuid.UUID, message string, token []byte) *obscurapb.Submission {
	submission := mail(to, message)
	submission.DeliveryToken = token
	return submission
}

// fetchUnnamed asks with a delivery token in place of an access token.
func (t *try) fetchUnnamed(path string, token []byte) *answer {
	return t.send(request{method: "GET", path: path,
		header: map[string]string{"Delivery-Token": base64.RawURLEncoding.EncodeToString(token)}})
}

var sealedChecks = []check{
	{"sealed.tokens", "Delivery tokens are added and removed together, listed as hashes, and belong to the user.", func(t *try) {
		u := t.user()
		d, other := t.deviceOf(u, 0, 0), t.deviceOf(u, 0, 0)
		token := t.opened(d)
		t.call("POST", tokensPath, other.token, client.DeliveryTokenChange{
			Add: []client.NewDeliveryToken{{Hash: hashOf(token)}}, Remove: [][]byte{hashOf(deliveryToken())}}).
			want(http.StatusOK, "(adding what is there, removing what is not)")
		listed := t.tokensOf(other)
		t.must(len(listed) == 1 && bytes.Equal(listed[0], hashOf(token)), "the tokens listed are not the one added")
		t.closed(other, token)
		t.must(len(t.tokensOf(d)) == 0, "a removed token is listed")
		t.call("GET", tokensPath, u.token, nil).wantError(http.StatusForbidden, "(user-scoped)")
	}},
	{"sealed.send", "A sealed envelope arrives, in order with the others, and names no sender.", func(t *try) {
		sender, to := t.device(), t.device()
		token := t.opened(to)
		failed := t.failures(t.submitSealed(uuid.NewString(), encode(sealed(to.id, "sealed", token))))
		t.must(len(failed) == 0, "a good submission was refused")
		t.post(sender, mail(to.id, "named"))
		got := t.pending(to).envelopes
		t.must(len(got) == 2 && string(got[0].GetMessage()) == "sealed", "the envelopes are not those that were sent")
		t.inOrder(got, 1)
		t.must(len(got[0].GetSenderId()) == 0 && len(got[0].GetSenderDeviceId()) == 0 &&
			got[0].GetSenderDeviceNumber() == 0, "a sealed envelope names a sender")
		t.must(len(got[1].GetSenderId()) == 16, "a named envelope names no sender")
	}},
	{"sealed.once", "A sealed batch that is sent again with its key is stored once; with another body it is refused (409).", func(t *try) {
		to, key := t.device(), uuid.NewString()
		token := t.opened(to)
		body := encode(sealed(to.id, "once", token))
		for range 2 {
			t.must(len(t.failures(t.submitSealed(key, body))) == 0, "a good submission was refused")
		}
		t.submitSealed(key, encode(sealed(to.id, "another", token))).wantError(http.StatusConflict, "(another body)")
		t.must(len(t.pending(to).envelopes) == 1, "the mailbox does not hold the one envelope")
	}},
	{"sealed.refused", "A wrong token, a removed one, another user's device and an unknown device are refused alike, and nothing is stored.", func(t *try) {
		to, other := t.device(), t.device()
		token, removed := t.opened(to), t.opened(to)
		t.closed(to, removed)
		said := ""
		for what, submission := range map[string]*obscurapb.Submission{
			"a wrong token": sealed(to.id, "x", deliveryToken()), "a removed token": sealed(to.id, "x", removed),
			"another user's device": sealed(other.id, "x", token), "an unknown device": sealed(uuid.New(), "x", token),
		} {
			failed := t.failures(t.submitSealed(uuid.NewString(), encode(submission)))
			t.must(len(failed) == 1 && failed[0].GetErrorCode() == obscurapb.ErrorCode_ERROR_CODE_REFUSED,
				"%s is not refused with REFUSED", what)
			t.must(said == "" || failed[0].GetErrorMessage() == said, "the answer tells %s from others", what)
			said = failed[0].GetErrorMessage()
		}
		t.must(len(t.pending(to).envelopes) == 0 && len(t.pending(other).envelopes) == 0, "something was stored")
	}},
	{"sealed.identified", "A request that shows a delivery token and says who makes it is refused (400 identified_request).", func(t *try) {
		sender, to := t.device(), t.device()
		token := t.opened(to)
		body := encode(sealed(to.id, "x", token))
		for _, a := range []*answer{
			t.send(request{method: "POST", path: sealedPath, media: protobufMedia, body: body, token: sender.token,
				header: map[string]string{"Idempotency-Key": uuid.NewString()}}),
			t.submit(sender, uuid.NewString(), body),
			t.send(request{method: "GET", path: "/v1/users/" + to.user.id.String(), token: sender.token,
				header: map[string]string{"Delivery-Token": base64.RawURLEncoding.EncodeToString(token)}}),
		} {
			a.wantError(http.StatusBadRequest, "(identified)")
			t.must(a.code() == "identified_request", "%s: %s, want identified_request", a.asked, a.said())
		}
		t.submitSealed("", body).wantError(http.StatusBadRequest, "(no Idempotency-Key)")
		t.must(len(t.pending(to).envelopes) == 0, "something was stored")
	}},
	{"sealed.fetch", "A delivery token opens its user's bundles and device list; with any other token the answer is 401, whether or not the user exists.", func(t *try) {
		to := t.device()
		token := t.opened(to)
		for _, rest := range []string{"", "/devices"} {
			path := "/v1/users/" + to.user.id.String() + rest
			t.fetchUnnamed(path, token).want(http.StatusOK, "")
			said := t.fetchUnnamed(path, deliveryToken())
			said.wantError(http.StatusUnauthorized, "(a wrong token)")
			unknown := t.fetchUnnamed("/v1/users/"+uuid.NewString()+rest, token)
			unknown.wantError(http.StatusUnauthorized, "(an unknown user)")
			t.must(bytes.Equal(said.body, unknown.body), "the answer tells an unknown user from a wrong token")
		}
	}},
}
