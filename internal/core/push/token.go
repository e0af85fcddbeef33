package push

import (
	"context"
	"crypto/ecdh"
	"encoding/hex"
	"net/netip"
	"net/url"
	"time"

	"code.dny.dev/ssrf"

	"github.com/obscura-relay/obscura/gen/db"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/storage"
)

// Errors of this package.
var (
	ErrSubscription = core.NewError(core.Invalid, "invalid_subscription",
		"The subscription needs an https endpoint of a public network, a point on P-256 and a secret of 16 bytes.")
)

// Token is where a wake-up goes. It is never logged.
type Token struct {
	Kind Kind
	// Address is the app's token, or the endpoint of a Web Push subscription.
	Address string
	// P256dh and Auth are the subscriber's keys of RFC 8291: an uncompressed point, and 16 bytes.
	P256dh, Auth []byte
}

// minAPNs is how many digits a device token of APNs has at least.
const minAPNs = 64

// AppToken tells the tokens of the two app services apart: those of APNs are hexadecimal.
func AppToken(token string) Token {
	if _, err := hex.DecodeString(token); err == nil && len(token) >= minAPNs {
		return Token{Kind: APNs, Address: token}
	}
	return Token{Kind: FCM, Address: token}
}

// maxEndpoint is the length of the longest endpoint.
const maxEndpoint = 2048

// PublicNetworks lets connections through to public addresses and to the port of https only. It is
// asked for an address when an endpoint is registered and, because names may lie, whenever one is
// dialled.
var PublicNetworks = ssrf.New(ssrf.WithPorts(443))

// check holds a subscription against what can be known without a connection.
func (s *Service) check(t *Token) error {
	if t.Kind != WebPush {
		return nil
	}
	u, err := url.Parse(t.Address)
	if err != nil || len(t.Address) > maxEndpoint || u.Scheme != "https" || u.Hostname() == "" || u.Opaque != "" ||
		u.User != nil || u.Fragment != "" {
		return ErrSubscription
	}
	if _, err := ecdh.P256().NewPublicKey(t.P256dh); err != nil || len(t.Auth) != 16 {
		return ErrSubscription
	}
	if s.cfg.PrivateNetworks {
		return nil
	}
	if port := u.Port(); port != "" && port != "443" {
		return ErrSubscription
	}
	if ip, err := netip.ParseAddr(u.Hostname()); err == nil && PublicNetworks.SafeAddr(ip) != nil {
		return ErrSubscription
	}
	return nil
}

// Set keeps how the principal's device is woken up, in place of what was kept before. Returns
// ErrSubscription.
func (s *Service) Set(ctx context.Context, p core.Principal, t Token) error {
	if err := s.check(&t); err != nil {
		return err
	}
	changed := false
	err := s.cfg.DB.Of(p.Device).Act(ctx, p, func(tx *storage.Tx) error {
		q := storage.Queries
		n, err := q.SetPushToken(ctx, tx, db.SetPushTokenParams{Bucket: tx.Bucket(p.Device), DeviceID: p.Device,
			Kind: int16(t.Kind), Address: t.Address, P256dh: t.P256dh, Auth: t.Auth})
		if changed = n > 0; err != nil || !changed {
			return err
		}
		return q.DeleteWakeup(ctx, tx, db.DeleteWakeupParams(tx.Place(p.Device))) // it was for the old one
	})
	if err == nil && changed {
		s.Schedule(p.Device)
	}
	return err
}

// Delete forgets how the principal's device is woken up.
func (s *Service) Delete(ctx context.Context, p core.Principal) error {
	return s.cfg.DB.Of(p.Device).Act(ctx, p, func(tx *storage.Tx) error { return Forget(ctx, tx, p.Device) })
}

// Forget is Delete within a transaction of somebody who holds the session.
func Forget(ctx context.Context, tx *storage.Tx, device core.DeviceID) error {
	if err := storage.Queries.DeletePushToken(ctx, tx, db.DeletePushTokenParams(tx.Place(device))); err != nil {
		return err
	}
	return storage.Queries.DeleteWakeup(ctx, tx, db.DeleteWakeupParams(tx.Place(device)))
}

// PublicKey is the key that subscriptions are made for, an uncompressed point.
func (s *Service) PublicKey() []byte { return s.cfg.PublicKey }

// Registration is what is kept of a token, without the token, for the account export.
type Registration struct {
	Kind         Kind
	RegisteredAt time.Time
	// WokenAt is nil before the first wake-up.
	WokenAt *time.Time
}

// RegistrationOf returns nil for a device that has no token.
func RegistrationOf(ctx context.Context, tx *storage.Tx, device core.DeviceID) (*Registration, error) {
	row, err := storage.Queries.PushTokenSummary(ctx, tx, db.PushTokenSummaryParams(tx.Place(device)))
	if err != nil {
		return nil, storage.NoRowsAs(err, nil)
	}
	return &Registration{Kind: Kind(row.Kind), RegisteredAt: row.RegisteredAt, WokenAt: row.WokenAt}, nil
}
