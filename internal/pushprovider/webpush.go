package pushprovider

import (
	"context"
	"crypto/ecdh"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/SherClockHolmes/webpush-go"

	"github.com/obscura-relay/obscura/internal/core/push"
)

// payload is every wake-up that an app sees the inside of.
const payload = `{"type":"wake"}`

// recordSize is the length of every encrypted wake-up.
const recordSize = 256

// topic lets a service replace a wake-up that waits by the next one (RFC 8030, 5.4).
const topic = "wake"

// WebPush is RFC 8030, 8291 and 8292. Make it with NewWebPush.
type WebPush struct {
	client  *http.Client
	options webpush.Options
}

// WebPushConfig is what a WebPush needs.
type WebPushConfig struct {
	Key *ecdh.PrivateKey
	// Contact is whom a push service can reach: mailto: or https: and an address.
	Contact string
	// PrivateNetworks allows services in private networks and at any port.
	PrivateNetworks bool
	// Roots are nil for those of the system.
	Roots *x509.CertPool
}

// NewWebPush makes the provider for the push services of Web Push.
func NewWebPush(cfg WebPushConfig) *WebPush {
	dialer := &net.Dialer{Timeout: 10 * time.Second}
	if !cfg.PrivateNetworks {
		dialer.Control = push.PublicNetworks.Safe
	}
	// Without a proxy: it would be what the dialer looks at. Few connections a host: endpoints are
	// anybody's.
	w := &WebPush{client: client(&http.Transport{DialContext: dialer.DialContext, MaxConnsPerHost: 8, MaxIdleConns: 256,
		TLSClientConfig: &tls.Config{RootCAs: cfg.Roots, MinVersion: tls.VersionTLS12}})}
	encode := base64.RawURLEncoding.EncodeToString
	w.options = webpush.Options{HTTPClient: w.client, RecordSize: recordSize, TTL: int(lifetime.Seconds()),
		Urgency: webpush.UrgencyHigh, Topic: topic,
		Subscriber:     strings.TrimPrefix(cfg.Contact, "mailto:"), // the library puts it back
		VAPIDPublicKey: encode(cfg.Key.PublicKey().Bytes()), VAPIDPrivateKey: encode(cfg.Key.Bytes())}
	return w
}

// Send implements push.Sender.
func (w *WebPush) Send(ctx context.Context, to push.Token) push.Result {
	options := w.options
	response, err := webpush.SendNotificationWithContext(ctx, []byte(payload),
		&webpush.Subscription{Endpoint: to.Address,
			Keys: webpush.Keys{P256dh: base64.RawURLEncoding.EncodeToString(to.P256dh),
				Auth: base64.RawURLEncoding.EncodeToString(to.Auth)}}, &options)
	if err != nil {
		return failed(err)
	}
	defer finish(response)
	r := answered(response)
	if response.StatusCode == http.StatusNotFound || response.StatusCode == http.StatusGone {
		r.Outcome = push.Invalid
	}
	return r
}

// Close lets go of idle connections.
func (w *WebPush) Close() { w.client.CloseIdleConnections() }
