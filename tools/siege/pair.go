package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	obscura "github.com/obscura-relay/obscura/clients/go"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/kit/prekeytest"
)

// pair is two devices that talk as long as the siege lasts.
type pair struct {
	name     string // of the user who receives
	from, to *obscura.Session
	arrived  chan uint64
}

const (
	every    = 40 * time.Millisecond // between two messages
	size     = 1000                  // bytes of each
	password = "correct horse battery staple"
)

// at makes clients with an address of their own.
func at(relay, address string) (*obscura.Relay, error) {
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}, Timeout: 10 * time.Second}
	return obscura.New(relay, obscura.Options{HTTPClient: &http.Client{Timeout: 30 * time.Second,
		Transport: &http.Transport{DialContext: dialer.DialContext}}})
}

// newDevice registers a user with a device.
func newDevice(ctx context.Context, relay, address string) (name string, device *obscura.Session, err error) {
	r, err := at(relay, address)
	if err != nil {
		return "", nil, err
	}
	name = "siege_" + strings.ReplaceAll(uuid.NewString(), "-", "")[:16]
	user, err := r.Register(ctx, name, password)
	if err != nil {
		return "", nil, err
	}
	device, err = user.AddDevice(ctx, prekeytest.NewIdentity().NewDevice(50, 2))
	return name, device, err
}

func newPair(ctx context.Context, relay string) (p *pair, err error) {
	p = &pair{arrived: make(chan uint64, 1000)}
	if _, p.from, err = newDevice(ctx, relay, "127.0.0.2"); err != nil {
		return nil, err
	}
	if p.name, p.to, err = newDevice(ctx, relay, "127.0.0.3"); err != nil {
		return nil, err
	}
	opened := make(chan struct{})
	go p.receive(ctx, sync.OnceFunc(func() { close(opened) }))
	select {
	case <-opened:
		return p, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// receive numbers what arrives, for as long as the siege lasts.
func (p *pair) receive(ctx context.Context, opened func()) {
	for event, err := range p.to.Gateway().Events(ctx) {
		if err != nil {
			return // what was sent will be missing
		}
		opened()
		if e, ok := event.(*obscura.Envelope); ok {
			p.to.Gateway().Acknowledge(e)
			p.arrived <- binary.BigEndian.Uint64(e.Message)
		}
	}
}

// patience is how long a message may be on its way before it counts as lost.
const patience = 10 * time.Second

// talk sends messages until watched ends, and waits for what has not arrived.
func (p *pair) talk(ctx, watched context.Context) *row {
	var mu sync.Mutex
	r := &row{}
	sent := map[uint64]time.Time{}
	var sending sync.WaitGroup
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	note := func(n uint64) {
		mu.Lock()
		defer mu.Unlock()
		if at, ours := sent[n]; ours {
			r.took = append(r.took, time.Since(at))
			delete(sent, n)
		}
	}
	next := uint64(time.Now().UnixNano())
	for watched.Err() == nil {
		select {
		case <-watched.Done():
		case n := <-p.arrived:
			note(n)
		case <-ticker.C:
			next++
			n := next
			mu.Lock()
			sent[n] = time.Now()
			mu.Unlock()
			sending.Go(func() {
				message := binary.BigEndian.AppendUint64(make([]byte, 0, size), n)[:size]
				failed, err := p.from.Send(ctx, obscura.NewBatch(obscura.Submission{DeviceID: p.to.DeviceID(),
					Message: message}))
				if err != nil || len(failed) > 0 {
					mu.Lock()
					defer mu.Unlock()
					r.refused++
					delete(sent, n)
				}
			})
		}
	}
	last, stop := context.WithTimeout(ctx, patience)
	defer stop()
	for last.Err() == nil {
		mu.Lock()
		left := len(sent)
		mu.Unlock()
		if left == 0 {
			break
		}
		select {
		case n := <-p.arrived:
			note(n)
		case <-time.After(every):
		}
	}
	sending.Wait()
	r.lost = len(sent)
	return r
}

// newAccounts registers the attackers' own users, each with a device, and uploads an attachment.
func newAccounts(ctx context.Context, relay string) (all []account, attachment string, err error) {
	const users, content = 20, 8 << 20
	for i := range users {
		_, device, err := newDevice(ctx, relay, net.IPv4(127, 0, 1, byte(i+1)).String())
		if err != nil {
			return nil, "", err
		}
		all = append(all, account{device.Tokens().Token, device.DeviceID().String()})
		if i > 0 {
			continue
		}
		uploaded, err := device.UploadAttachment(ctx, bytes.NewReader(make([]byte, content)), content)
		if err != nil {
			return nil, "", err
		}
		attachment = uploaded.ID.String()
	}
	return all, attachment, nil
}

// The devices of a crowd: as many users as that needs, each with as many devices as a user may
// have.
const (
	crowdDevices = 10_000
	crowdUsers   = crowdDevices / core.MaxDevices
)

// newCrowd registers the devices of a crowd, a few at a time. They share one upload of keys, which
// nobody fetches.
func newCrowd(ctx context.Context, relay string) ([]account, error) {
	const atOnce = 8
	keys := prekeytest.NewIdentity().NewDevice(1, 1)
	all := make([]account, crowdDevices)
	making, ctx := errgroup.WithContext(ctx)
	making.SetLimit(atOnce)
	for i := range crowdUsers {
		making.Go(func() error {
			r, err := at(relay, net.IPv4(127, 2, byte(i/250), byte(i%250+1)).String())
			if err != nil {
				return err
			}
			user, err := r.Register(ctx, "crowd_"+short(), password)
			for n := 0; err == nil && n < core.MaxDevices; n++ {
				var device *obscura.Session
				if device, err = user.AddDevice(ctx, keys); err == nil {
					all[i*core.MaxDevices+n] = account{device.Tokens().Token, device.DeviceID().String()}
				}
			}
			return err
		})
	}
	return all, making.Wait()
}
