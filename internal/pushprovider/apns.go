package pushprovider

import (
	"context"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/sideshow/apns2"
	"github.com/sideshow/apns2/token"

	"github.com/obscura-relay/obscura/internal/core/push"
)

// apnsPayload is what an iPhone needs to wake an app at once, even one that was ended: an alert
// that the app's notification service may replace. Its text is a key that the app translates.
const apnsPayload = `{"aps":{"alert":{"loc-key":"NEW_MESSAGE"},"mutable-content":1,"sound":"default"},"type":"wake"}`

// APNs is Apple's push service, by token. Make it with NewAPNs.
type APNs struct {
	client *apns2.Client
	topic  string
}

// APNsConfig is what an APNs needs.
type APNsConfig struct {
	// Key is a .p8 file; KeyID and TeamID are its ten-letter names; Topic is the app's bundle id.
	Key                  []byte
	KeyID, TeamID, Topic string
	// Sandbox is Apple's other service, for apps in development.
	Sandbox bool
	// URL is "" for Apple's, Roots are nil for those of the system.
	URL   string
	Roots *x509.CertPool
}

// errAPNsKey says that the file is not a key for APNs.
var errAPNsKey = errors.New("it is not a .p8 file with an EC key")

// NewAPNs makes the provider for APNs.
func NewAPNs(cfg APNsConfig) (*APNs, error) {
	key, err := token.AuthKeyFromBytes(cfg.Key)
	if err != nil {
		return nil, errAPNsKey
	}
	t := &token.Token{AuthKey: key, KeyID: cfg.KeyID, TeamID: cfg.TeamID}
	if ok, err := t.Generate(); !ok || err != nil { // later the library keeps such an error to itself
		return nil, errAPNsKey
	}
	host := apns2.HostProduction
	if cfg.Sandbox {
		host = apns2.HostDevelopment
	}
	if cfg.URL != "" {
		host = cfg.URL
	}
	return &APNs{topic: cfg.Topic, client: &apns2.Client{Host: host, Token: t,
		HTTPClient: client(&http.Transport{Proxy: http.ProxyFromEnvironment,
			TLSClientConfig: &tls.Config{RootCAs: cfg.Roots, MinVersion: tls.VersionTLS12}})}}, nil
}

// Send implements push.Sender.
func (a *APNs) Send(ctx context.Context, to push.Token) push.Result {
	answer, err := a.client.PushWithContext(ctx, &apns2.Notification{DeviceToken: to.Address, Topic: a.topic,
		CollapseID: topic,
		Expiration: time.Now().Add(lifetime), Priority: apns2.PriorityHigh, PushType: apns2.PushTypeAlert,
		Payload: apnsPayload})
	if err != nil {
		return failed(err)
	}
	r := push.Result{Outcome: push.Rejected, Reason: "status " + strconv.Itoa(answer.StatusCode)}
	switch {
	case answer.Sent():
		r.Outcome = push.Delivered
	case answer.StatusCode == http.StatusGone, answer.Reason == apns2.ReasonBadDeviceToken,
		answer.Reason == apns2.ReasonDeviceTokenNotForTopic:
		r.Outcome = push.Invalid
	case answer.StatusCode == http.StatusForbidden, answer.StatusCode == http.StatusTooManyRequests,
		answer.StatusCode >= 500:
		r.Outcome = push.Failed // 403: the provider token, the operator's to mend
	}
	return r
}

// Close lets go of idle connections.
func (a *APNs) Close() { a.client.HTTPClient.CloseIdleConnections() }

// isRSAKey reports whether a text is a PEM file with an RSA key, as service accounts have.
func isRSAKey(text string) bool {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return false
	}
	if _, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		return true
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	_, ok := key.(*rsa.PrivateKey)
	return err == nil && ok
}
