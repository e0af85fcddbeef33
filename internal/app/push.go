package app

import (
	"crypto/ecdh"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net/mail"
	"net/url"
	"strings"

	"github.com/obscura-relay/obscura/internal/core/account"
	"github.com/obscura-relay/obscura/internal/core/push"
	"github.com/obscura-relay/obscura/internal/pushprovider"
)

// Push says how devices are woken up. Web Push works without any of it.
type Push struct {
	PushContact         string `default:"mailto:operator@obscura.invalid" placeholder:"URL" help:"Whom a Web Push service can reach about this relay: mailto: or https:. Some services want a real one."`
	PushPrivateNetworks bool   `help:"Let Web Push endpoints be in private networks and at any port, for a push service of your own."`
	VAPIDKey            string `name:"vapid-key" placeholder:"BASE64" help:"Private key that Web Push knows the relay by, 32 bytes in base64url. Without it one is made and kept in the database."`

	FCMCredentials string `name:"fcm-credentials" placeholder:"FILE" help:"JSON file of a Firebase service account. Without it tokens of FCM are kept and not used."`
	APNsKey        string `name:"apns-key" placeholder:"FILE" help:"Key file (.p8) for APNs. Without it tokens of APNs are kept and not used."`
	APNsKeyID      string `name:"apns-key-id" placeholder:"ID" help:"Name of the APNs key."`
	APNsTeamID     string `name:"apns-team-id" placeholder:"ID" help:"Team that the APNs key belongs to."`
	APNsTopic      string `name:"apns-topic" placeholder:"ID" help:"Bundle id of the app."`
	APNsSandbox    bool   `name:"apns-sandbox" help:"Use the APNs of apps in development."`
}

// PushServices are where push services are, and how fast they are used; what is zero is as in
// earnest.
type PushServices struct {
	Times     push.Times
	FCM, APNs string // URLs
	Roots     *x509.CertPool
}

// Option changes what an operator cannot.
type Option func(*relay)

// WithPushServices has the relay use push services of a test.
func WithPushServices(s PushServices) Option { return func(r *relay) { r.pushServices = s } }

// WithPasswordCost has the relay hash passwords at another cost.
func WithPasswordCost(c account.Cost) Option { return func(r *relay) { r.passwordCost = c } }

func (p *Push) validatePush() error {
	address, isMail := strings.CutPrefix(p.PushContact, "mailto:")
	_, wrong := mail.ParseAddress(address)
	u, err := url.Parse(p.PushContact)
	if isMail && wrong != nil || !isMail && (err != nil || u.Scheme != "https" || u.Host == "") {
		return errors.New("--push-contact must be mailto: or https: and an address, for example mailto:push@example.org")
	}
	if _, err := p.vapidKey(); err != nil {
		return err
	}
	given := 0
	for _, value := range []string{p.APNsKey, p.APNsKeyID, p.APNsTeamID, p.APNsTopic} {
		if value != "" {
			given++
		}
	}
	if given != 0 && given != 4 {
		return errors.New("--apns-key, --apns-key-id, --apns-team-id and --apns-topic must be given together")
	}
	_, err = p.fromFiles(PushServices{}) // before anything is changed
	return err
}

// vapidKey is the operator's own, nil for none.
func (p *Push) vapidKey() (*ecdh.PrivateKey, error) {
	if p.VAPIDKey == "" {
		return nil, nil
	}
	secret, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(p.VAPIDKey, "="))
	if err == nil {
		var key *ecdh.PrivateKey
		if key, err = ecdh.P256().NewPrivateKey(secret); err == nil {
			return key, nil
		}
	}
	return nil, errors.New("--vapid-key must be the 32 bytes of a private key of P-256 in base64url")
}

// senders are the push providers that are configured.
func (p *Push) senders(vapid *ecdh.PrivateKey, at PushServices) (map[push.Kind]push.Sender, error) {
	senders, err := p.fromFiles(at)
	if err != nil {
		return nil, err
	}
	senders[push.WebPush] = pushprovider.NewWebPush(pushprovider.WebPushConfig{Key: vapid, Contact: p.PushContact,
		PrivateNetworks: p.PushPrivateNetworks, Roots: at.Roots})
	return senders, nil
}

// fromFiles are the push providers that need a file of the operator's.
func (p *Push) fromFiles(at PushServices) (map[push.Kind]push.Sender, error) {
	senders := map[push.Kind]push.Sender{}
	if p.FCMCredentials != "" {
		file, err := readFile(p.FCMCredentials)
		if err == nil {
			senders[push.FCM], err = pushprovider.NewFCM(pushprovider.FCMConfig{Credentials: file, URL: at.FCM,
				Roots: at.Roots})
		}
		if err != nil {
			return nil, fmt.Errorf("--fcm-credentials cannot be used: %w", err)
		}
	}
	if p.APNsKey != "" {
		file, err := readFile(p.APNsKey)
		if err == nil {
			senders[push.APNs], err = pushprovider.NewAPNs(pushprovider.APNsConfig{Key: file, KeyID: p.APNsKeyID,
				TeamID: p.APNsTeamID, Topic: p.APNsTopic, Sandbox: p.APNsSandbox, URL: at.APNs, Roots: at.Roots})
		}
		if err != nil {
			return nil, fmt.Errorf("--apns-key cannot be used: %w", err)
		}
	}
	return senders, nil
}
