package obscura

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/gen/client"
	"github.com/obscura-relay/obscura/gen/obscurapb"
)

var (
	errNotSealed = errors.New("each submission of a sealed batch needs a delivery token of 32 bytes")
	errSealed    = errors.New("a batch with delivery tokens is for SendSealed: it would say who sends it")
)

// sealed makes the calls that do not say who makes them. Each has a connection of its own, without
// cookies, and follows no redirection.
func (o *Options) sealed(relay *url.URL) (*client.Client, error) {
	transport := o.SealedTransport
	if transport == nil {
		next := o.HTTPClient.Transport
		if next == nil {
			next = http.DefaultTransport //nolint:forbidigo // it is copied
		}
		own, ok := next.(*http.Transport)
		if !ok {
			return nil, errors.New("the HTTPClient has a transport of its own kind: sealed calls need a SealedTransport")
		}
		transport = unlinked(own)
	}
	unnamed := *relay
	unnamed.User = nil
	return client.NewClient(unnamed.String(), client.WithHTTPClient(&caller{sealed: true, http: &http.Client{
		Transport:     transport,
		Timeout:       o.HTTPClient.Timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}))
}

// unlinked is a copy of a transport that shares no connection with it, nor with itself, and has
// nothing that names its user.
func unlinked(own *http.Transport) *http.Transport {
	t := own.Clone()
	t.DisableKeepAlives = true
	// Connections of HTTP/2 are shared, and a copy may have those of the original.
	t.Protocols = new(http.Protocols)
	t.Protocols.SetHTTP1(true)
	t.ForceAttemptHTTP2, t.TLSNextProto = false, map[string]func(string, *tls.Conn) http.RoundTripper{}
	if config := t.TLSClientConfig; config != nil {
		config.NextProtos = nil
		config.Certificates, config.GetClientCertificate, config.ClientSessionCache = nil, nil, nil
	}
	return t
}

// SendSealed sends a batch as Session.Send does, and does not say who sends it: each submission
// and each recipient of a shared one shows the DeliveryToken that its user has given out. Each try
// has a connection of its own. What remains to the relay is the address, the time, and that all of
// a batch comes from one sender: send to several contacts in several batches if it should not see
// that.
//
// What a token does not open comes back with ERROR_CODE_REFUSED, whether the token or the device is
// gone. Nothing is ever sent by name in its place. After DevicesChangedError call CorrectSealed. An
// audience whose user no token of the batch opens is told as one without devices. Codes as for
// Send; rate_limited counts tokens and addresses.
func (r *Relay) SendSealed(ctx context.Context, batch Batch) ([]FailedSubmission, error) {
	if batch.Key == uuid.Nil {
		return nil, errNoKey
	}
	if !batch.eachToken(func(token DeliveryToken) bool { return len(token) == deliveryTokenBytes }) {
		return nil, errNotSealed
	}
	if r.errSealed != nil {
		return nil, r.errSealed
	}
	body, err := encode(batch)
	if err != nil {
		return nil, err
	}
	response, err := r.sealed.SendSealedMessagesWithBody(ctx,
		&client.SendSealedMessagesParams{IdempotencyKey: batch.Key.String()}, protobuf, bytes.NewReader(body))
	var answer obscurapb.SendMessageResponse
	if err := read(response, err, &answer); err != nil {
		return nil, err
	}
	return failures(&answer)
}

// SealedBundles returns bundles as Session.Bundles does, and does not say who asks. Codes:
// unauthorized (the token is not one of this user), device_not_found, rate_limited (120 in 10
// minutes for a token).
func (r *Relay) SealedBundles(ctx context.Context, user uuid.UUID, token DeliveryToken,
	devices ...uuid.UUID) (bundles []client.PreKeyBundle, err error) {
	if r.errSealed != nil {
		return nil, r.errSealed
	}
	response, err := r.sealed.GetPreKeyBundles(ctx, user, &client.GetPreKeyBundlesParams{DeviceID: devices},
		show(token))
	err = read(response, err, &bundles)
	return bundles, err
}

// SealedDevices returns the devices of a user as Session.Devices does, and does not say who asks.
// Codes: unauthorized (the token is not one of this user), rate_limited (600 in 10 minutes for a
// token).
func (r *Relay) SealedDevices(ctx context.Context, user uuid.UUID,
	token DeliveryToken) (devices client.UserDevices, err error) {
	if r.errSealed != nil {
		return devices, r.errSealed
	}
	response, err := r.sealed.ListDevicesOfUser(ctx, user, show(token))
	err = read(response, err, &devices)
	return devices, err
}

// CorrectSealed finds out what to do about a batch that SendSealed refused, as Session.Correct
// does, and does not say who asks: with the tokens of the batch. When the batch is for other
// devices of the sender's own user too, known has the sender's device. Codes: unauthorized (a token
// is not one of its user any more), rate_limited.
func (r *Relay) CorrectSealed(ctx context.Context, batch Batch, changed *DevicesChangedError,
	known ...DeviceList) (Correction, error) {
	return correct(batch, changed, known, func(k DeviceList) (DevicesChange, error) {
		var token DeliveryToken
		batch.each(func(device uuid.UUID, t DeliveryToken) {
			if find(k.Devices, device) != nil {
				token = t
			}
		})
		if token == nil {
			return DevicesChange{}, errors.New("no submission of the batch has a delivery token of a user whose devices have changed")
		}
		return devicesChange(k, uuid.Nil,
			func() (client.UserDevices, error) { return r.SealedDevices(ctx, k.UserID, token) },
			func(devices []uuid.UUID) ([]client.PreKeyBundle, error) {
				return r.SealedBundles(ctx, k.UserID, token, devices...)
			})
	})
}

// show puts a delivery token where an access token would be.
func show(token DeliveryToken) client.RequestEditorFn {
	return func(_ context.Context, request *http.Request) error {
		request.Header.Set("Delivery-Token", base64.RawURLEncoding.EncodeToString(token))
		return nil
	}
}

// each calls with the device and the delivery token of every submission and recipient.
func (b *Batch) each(call func(device uuid.UUID, token DeliveryToken)) {
	for i := range b.Submissions {
		call(b.Submissions[i].DeviceID, b.Submissions[i].DeliveryToken)
	}
	for i := range b.Shared {
		for j := range b.Shared[i].Recipients {
			call(b.Shared[i].Recipients[j].DeviceID, b.Shared[i].Recipients[j].DeliveryToken)
		}
	}
}

// eachToken reports whether all delivery tokens of the batch are as they should be.
func (b *Batch) eachToken(good func(DeliveryToken) bool) bool {
	all := true
	b.each(func(_ uuid.UUID, token DeliveryToken) { all = all && good(token) })
	return all
}
