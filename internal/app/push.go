package app

import (
	"crypto/ecdh"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net/mail"
	"net/url"
	"os"
	"strings"

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

	// PushTimes and PushServices are for tests: delays, and services of their own.
	PushTimes    push.Times   `kong:"-"`
	PushServices PushServices `kong:"-"`
}

// PushServices are where push services are; zero means the real ones.
type PushServices struct {
	FCM, APNs string
	Roots     *x509.CertPool
}

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
	return nil
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

// providers are the push providers that are configured.
type providers struct {
	web  *pushprovider.WebPush
	fcm  *pushprovider.FCM
	apns *pushprovider.APNs
}

func (p *Push) providers(vapid *ecdh.PrivateKey) (providers, error) {
	roots := p.PushServices.Roots
	c := providers{web: pushprovider.NewWebPush(pushprovider.WebPushConfig{Key: vapid, Contact: p.PushContact,
		PrivateNetworks: p.PushPrivateNetworks, Roots: roots})}
	if p.FCMCredentials != "" {
		file, err := os.ReadFile(p.FCMCredentials)
		if err == nil {
			c.fcm, err = pushprovider.NewFCM(pushprovider.FCMConfig{Credentials: file, URL: p.PushServices.FCM,
				Roots: roots})
		}
		if err != nil {
			return c, fmt.Errorf("--fcm-credentials cannot be used: %w", err)
		}
	}
	if p.APNsKey != "" {
		file, err := os.ReadFile(p.APNsKey)
		if err == nil {
			c.apns, err = pushprovider.NewAPNs(pushprovider.APNsConfig{Key: file, KeyID: p.APNsKeyID,
				TeamID: p.APNsTeamID, Topic: p.APNsTopic,
				Sandbox: p.APNsSandbox, URL: p.PushServices.APNs, Roots: roots})
		}
		if err != nil {
			return c, fmt.Errorf("--apns-key cannot be used: %w", err)
		}
	}
	return c, nil
}

func (c providers) senders() map[push.Kind]push.Sender {
	out := map[push.Kind]push.Sender{push.WebPush: c.web}
	if c.fcm != nil {
		out[push.FCM] = c.fcm
	}
	if c.apns != nil {
		out[push.APNs] = c.apns
	}
	return out
}

// close lets go of idle connections.
func (c providers) close() {
	c.web.Close()
	if c.fcm != nil {
		c.fcm.Close()
	}
	if c.apns != nil {
		c.apns.Close()
	}
}
