package bench

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	obscura "github.com/obscura-relay/obscura/clients/go"
	"github.com/obscura-relay/obscura/gen/client"
	"github.com/obscura-relay/obscura/internal/kit/prekeytest"
)

// devicesPerUser is as many as the contract allows: a password costs far more than a device.
const devicesPerUser = 10

// registrars is how many users register at once.
const registrars = 16

// A user is one registered account.
type user struct {
	id       uuid.UUID
	name     string
	password string
	// delivery is a delivery token, in a run that needs them.
	delivery []byte
	session  *obscura.Session
}

// A device is a registered device that can act.
type device struct {
	user     *user
	id       uuid.UUID
	identity *prekeytest.Identity
	signed   client.SignedPreKey
	session  *obscura.Session
}

// token is the device's access token. When the relay does not renew it, what is sent without one
// fails and is counted.
func (d *device) token(ctx context.Context) string {
	token, _ := d.session.AccessToken(ctx)
	return token
}

// people are the users and devices of a run.
type people struct {
	users   []*user
	devices []*device
}

// wanted says what to register.
type wanted struct {
	devices   int
	perUser   int // devices of one user
	ec, kyber int // one-time keys of each device
}

// register makes users and devices, and tells how far it is.
func register(ctx context.Context, relay *obscura.Relay, w wanted, tell func(done, of int)) (*people, error) {
	if w.perUser == 0 {
		w.perUser = devicesPerUser
	}
	p := &people{devices: make([]*device, w.devices), users: make([]*user, (w.devices+w.perUser-1)/w.perUser)}
	var done atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(registrars)
	for i := range p.users {
		g.Go(func() error {
			u, err := newUser(ctx, relay)
			if err != nil {
				return err
			}
			p.users[i] = u
			for j := i * w.perUser; j < min((i+1)*w.perUser, w.devices); j++ {
				if p.devices[j], err = u.newDevice(ctx, w.ec, w.kyber); err != nil {
					return err
				}
				tell(int(done.Add(1)), w.devices)
			}
			return nil
		})
	}
	return p, g.Wait()
}

// move makes everybody act at another relay of the same database.
func (p *people) move(to *obscura.Relay) error {
	errs := make([]error, 0, len(p.users)+len(p.devices))
	move := func(s **obscura.Session) {
		moved, err := to.Resume((*s).Tokens())
		*s, errs = moved, append(errs, err)
	}
	for _, u := range p.users {
		move(&u.session)
	}
	for _, d := range p.devices {
		move(&d.session)
	}
	return errors.Join(errs...)
}

// leave deletes the users from a relay that stays. It is a courtesy: its errors are not the run's.
func (p *people) leave(ctx context.Context) {
	var g errgroup.Group
	g.SetLimit(8)
	for _, u := range p.users {
		g.Go(func() error {
			_, err := u.session.API().DeleteAccountWithResponse(ctx, client.DeleteAccount{Password: u.password})
			return err
		})
	}
	_ = g.Wait()
}

func newUser(ctx context.Context, relay *obscura.Relay) (*user, error) {
	u := &user{name: "bench_" + randomHex(12), password: randomHex(16)}
	err := insist(ctx, func() (err error) {
		u.session, err = relay.Register(ctx, u.name, u.password)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot register a user: %w", err)
	}
	u.id = u.session.UserID()
	return u, nil
}

func (u *user) newDevice(ctx context.Context, ec, kyber int) (*device, error) {
	identity := prekeytest.NewIdentity()
	upload := identity.NewDevice(max(ec, 1), kyber)
	upload.LastResortKyberPreKey = nil
	if kyber > 0 {
		last := identity.KyberPreKey(kyber + 1) // a relay may keep both kinds of Kyber keys in one place
		upload.LastResortKyberPreKey = &last
	}
	d := &device{user: u, identity: identity, signed: upload.SignedPreKey}
	err := insist(ctx, func() (err error) {
		d.session, err = u.session.AddDevice(ctx, upload)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot register a device: %w", err)
	}
	d.id = d.session.DeviceID()
	return d, nil
}

func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}
