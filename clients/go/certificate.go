package obscura

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/obscura-relay/obscura/gen/client"
)

const (
	// certificateMargin and up to as much again is how long before its end a certificate is
	// replaced: many end in the same second, and not all devices should ask in one.
	certificateMargin = 2 * time.Hour
	// certificateLife is how long the relay's certificates live at least; it counts when a clock is
	// wrong.
	certificateLife = 24 * time.Hour
)

// SenderCertificate says who a device is, to those who get sealed messages of it.
type SenderCertificate struct {
	// Certificate is for libsignal's SenderCertificate.deserialize.
	Certificate []byte
	// ExpiresAt is a full hour. What the relay accepts later is refused by its recipient.
	ExpiresAt time.Time
}

// certificates keeps the certificate of a session.
type certificates struct {
	// turn holds a value while somebody asks the relay.
	turn chan struct{}

	mu    sync.Mutex
	kept  SenderCertificate // guarded by mu
	until time.Time         // guarded by mu: when to ask for another, by the wall clock
	drops int               // guarded by mu: how often what is kept was dropped
}

func newCertificates() *certificates { return &certificates{turn: make(chan struct{}, 1)} }

func (c *certificates) get() (kept SenderCertificate, good bool, drops int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.kept, time.Now().Round(0).Before(c.until), c.drops
}

// keep keeps a certificate, unless there was a drop since it was asked for.
func (c *certificates) keep(certificate SenderCertificate, drops int) {
	life := time.Until(certificate.ExpiresAt)
	if life <= 0 || life > certificateLife+time.Hour { // by a clock that is wrong
		life = certificateLife
	}
	margin := certificateMargin + rand.N(certificateMargin)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.drops == drops {
		c.kept, c.until = certificate, time.Now().Round(0).Add(life-min(margin, life/5))
	}
}

// drop forgets the certificate: the device may have another identity key.
func (c *certificates) drop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.kept, c.until = SenderCertificate{}, time.Time{}
	c.drops++
}

// SenderCertificate returns a certificate of this device for libsignal to seal messages with. It is
// kept until 2 to 4 hours before it expires, never beyond this Session, and dropped by UploadKeys
// with an identity key. Codes: device_required, rate_limited (60 in a minute).
func (s *Session) SenderCertificate(ctx context.Context) (SenderCertificate, error) {
	if _, _, err := s.tokens.ready(); err != nil {
		return SenderCertificate{}, err
	}
	if kept, good, _ := s.certificates.get(); good {
		return kept, nil
	}
	select {
	case s.certificates.turn <- struct{}{}:
		defer func() { <-s.certificates.turn }()
	case <-ctx.Done():
		return SenderCertificate{}, ctx.Err()
	}
	kept, good, drops := s.certificates.get()
	if good {
		return kept, nil
	}
	var told client.SenderCertificate
	response, err := s.api.GetSenderCertificate(ctx)
	if err := read(response, err, &told); err != nil {
		return SenderCertificate{}, err
	}
	fresh := SenderCertificate{Certificate: told.Certificate, ExpiresAt: time.Unix(told.ExpiresAt, 0)}
	s.certificates.keep(fresh, drops)
	return fresh, nil
}

// TrustRoot returns the public key, 33 bytes, that sender certificates of this relay descend from.
// Pin it: put it into the application, or keep the first one and refuse another. Whoever can
// exchange it can put a false sender on the first message of a conversation.
func (r *Relay) TrustRoot(ctx context.Context) ([]byte, error) {
	var root client.TrustRoot
	response, err := r.api.GetTrustRoot(ctx)
	err = read(response, err, &root)
	return root.PublicKey, err
}
