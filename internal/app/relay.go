package app

import (
	"context"
	"crypto/ecdh"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/IBM/pgxpoolprometheus"
	"github.com/gofiber/fiber/v2"

	"github.com/obscura-relay/obscura"
	"github.com/obscura-relay/obscura/internal/api"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/core/account"
	"github.com/obscura-relay/obscura/internal/core/blob"
	"github.com/obscura-relay/obscura/internal/core/certificate"
	"github.com/obscura-relay/obscura/internal/core/deliverytoken"
	"github.com/obscura-relay/obscura/internal/core/device"
	"github.com/obscura-relay/obscura/internal/core/keys"
	"github.com/obscura-relay/obscura/internal/core/mailbox"
	"github.com/obscura-relay/obscura/internal/core/push"
	"github.com/obscura-relay/obscura/internal/gateway"
	"github.com/obscura-relay/obscura/internal/metrics"
	"github.com/obscura-relay/obscura/internal/notice"
	"github.com/obscura-relay/obscura/internal/postgres"
	"github.com/obscura-relay/obscura/internal/storage"
)

// relay is the parts, wired.
type relay struct {
	db           *database
	logger       *slog.Logger
	level        *slog.LevelVar // of the logger
	metrics      *metrics.Metrics
	accounts     *account.Service
	keys         *keys.Service
	mailbox      *mailbox.Service
	certificates *certificate.Service
	delivery     *deliverytoken.Service
	store        *blob.Store
	blobs        *blob.Service
	uploads      *api.RunningUploads
	probes       chan struct{} // holds a token for every probe of the blob store under way
	gateway      *gateway.Gateway
	bus          *notice.Bus
	push         *push.Service
	limits       *api.Limits
	http         *fiber.App
	keysReplaced chan struct{} // holds a token when those that sign access tokens may have been
	// pushServices are an option.
	pushServices PushServices

	management   *http.Server
	plain        *http.Server // nil unless http:// leads to https://
	stopping     atomic.Bool
	pressure     pressure
	disk         Disk
	passwordCost account.Cost
	renewals     time.Duration // see WithRenewals
	brokenParts  brokenParts
}

func newRelay(cfg Config, db *database, vapid *ecdh.PrivateKey, logger *slog.Logger, options []Option) (*relay, error) {
	r := &relay{db: db, logger: logger, metrics: metrics.New(), uploads: api.NewRunningUploads(),
		probes: make(chan struct{}, 4), keysReplaced: make(chan struct{}, 1),
		disk:        freeDisk,
		brokenParts: brokenParts{names: map[string]bool{}}}
	for _, option := range options {
		option(r)
	}
	r.metrics.Registry().MustRegister(pgxpoolprometheus.NewCollector(db.main.Pool(),
		map[string]string{"pool": "requests"}),
		pgxpoolprometheus.NewCollector(db.async.Pool(), map[string]string{"pool": "acknowledgements"}))
	cfg.warn(logger)
	var err error
	if r.limits, err = cfg.rates(); err != nil {
		return nil, err
	}
	tokenKey, err := cfg.tokenKey()
	if err != nil {
		return nil, err
	}
	ownKeys, err := cfg.ownKeys()
	if err != nil {
		return nil, err
	}
	senders, err := cfg.senders(vapid, r.pushServices)
	if err != nil {
		return nil, err
	}
	blobURL, err := cfg.blobURL()
	if err != nil {
		return nil, err
	}
	if r.store, err = blob.Open(blobURL); err != nil {
		return nil, err
	}
	r.bus = notice.New(notice.Config{URL: db.url, Requests: db.main, DB: db.async, NATSURL: cfg.NATSURL,
		Receive: r.receive, Resync: r.resync, Logger: logger})
	r.accounts = account.New(account.Config{DB: db.main, Registration: cfg.Registration, TokenKey: tokenKey,
		Fresh: r.bus.Fresh, Node: r, PasswordCost: r.passwordCost,
		EraseDevice: device.Erase, EraseUser: blob.EraseUser})
	devices := device.New(device.Config{DB: db.main, Accounts: r.accounts, Node: r})
	r.certificates = certificate.New(certificate.Config{DB: db.main, Keys: ownKeys})
	r.delivery = deliverytoken.New(db.main)
	r.keys = keys.New(keys.Config{DB: db.main, Node: r, Dropped: r.metrics.Dropped})
	r.mailbox = mailbox.New(mailbox.Config{DB: db.main, Async: db.async, Sockets: r, Counters: r.metrics})
	r.blobs = blob.New(blob.Config{DB: db.main, Store: r.store, Quota: int64(cfg.AttachmentQuota),
		DailyQuota: int64(cfg.AttachmentDailyQuota),
		Counters:   r.metrics, Logger: logger})
	r.metrics.Queue("blobs_to_delete", r.blobs.WaitingTrash)
	r.metrics.Queue("sends", r.mailbox.WaitingSends)
	r.metrics.Queue("acknowledgements", r.mailbox.WaitingAcknowledgements)
	r.gateway = gateway.New(gateway.Config{Mailbox: r.mailbox, Keys: r.keys, Sessions: r.accounts, Node: r,
		PollInterval: cfg.PollInterval, Counters: r.metrics, Logger: logger})
	r.push = push.New(push.Config{DB: db.main, Async: db.async, PublicKey: vapid.PublicKey().Bytes(), Senders: senders,
		PrivateNetworks: cfg.PushPrivateNetworks, Live: r.gateway.Live, Ask: r.askForSockets,
		Times: r.pushServices.Times, Counters: r.metrics, Logger: logger})
	r.metrics.Queue("wakeups", r.push.Waiting)
	r.metrics.Queue("passwords", r.accounts.WaitingHashing)
	r.metrics.Gauge("obscura_pending_envelopes",
		"Envelopes in all mailboxes of all nodes, when this node last swept, every 5 minutes.", r.mailbox.Pending)
	r.metrics.Gauge("obscura_oldest_envelope_seconds", "Age of the oldest of them.", r.mailbox.Oldest)
	r.metrics.Build(Version())
	r.pressure.resources = r.resources(cfg)
	r.http, err = api.New(api.Config{Accounts: r.accounts, Registration: cfg.Registration,
		Devices: devices, Keys: r.keys, Mailbox: r.mailbox, Blobs: r.blobs,
		Uploads: r.uploads, Push: r.push, Certificates: r.certificates, DeliveryTokens: r.delivery,
		IsUpgrade: gateway.IsUpgrade, Upgrade: r.gateway.Upgrade,
		Version: Version(), Contract: obscura.OpenAPI, Frames: obscura.Proto, Limits: r.limits,
		Pressure:       r.pressure.Level,
		TrustedProxies: cfg.TrustedProxies, Secure: cfg.secure(), CORSOrigins: cfg.CORSOrigins,
		Timeouts: api.Timeouts{Read: cfg.ReadTimeout, Write: cfg.WriteTimeout, Idle: cfg.IdleTimeout,
			Request: cfg.RequestTimeout},
		Stopping: r.stopping.Load, Observer: r.metrics, Logger: logger})
	r.management = r.managementServer(cfg.Pprof)
	return r, err
}

// Announce implements core.Announcer. Revocations reached the others with the commit.
func (r *relay) Announce(n core.Notice) {
	if n.Kind == core.NoticeEnded {
		r.accounts.Revoke(n.IDs)
	}
	elsewhere := r.gateway.Deliver(n)
	switch n.Kind {
	case core.NoticeMail:
		r.push.Schedule(elsewhere.IDs...)
		r.bus.Publish(elsewhere)
	case core.NoticeKeys:
		r.bus.Publish(elsewhere)
	case core.NoticeDisplaced: // a socket has opened
		r.push.Cancel(n.IDs...)
		r.bus.Publish(n)
	}
}

// Offer gives committed envelopes to the device's socket, if it is here.
func (r *relay) Offer(device core.DeviceID, envelopes []core.Envelope) bool {
	return r.gateway.Offer(device, envelopes)
}

// Left has a device woken up for what it has left unread.
func (r *relay) Left(device core.DeviceID) { r.push.Schedule(device) }

// Silence returns how long ago it was certain that this node had heard of every revocation.
func (r *relay) Silence() time.Duration { return r.bus.Silence() }

// receive is what a node tells.
func (r *relay) receive(n core.Notice) {
	switch n.Kind {
	case core.NoticeEnded:
		r.accounts.Revoke(n.IDs)
	case core.NoticeSigningKeys:
		r.lookForKeys()
		return
	case core.NoticeDue:
		n.IDs = slices.DeleteFunc(n.IDs, func(device core.DeviceID) bool { return !r.gateway.Live(device) })
		r.push.Cancel(n.IDs...)
		return
	}
	r.gateway.Deliver(n)
}

// askForSockets asks the nodes which have live sockets of these devices to cancel their wake-ups.
func (r *relay) askForSockets(devices []core.DeviceID) {
	r.bus.Publish(core.Notice{Kind: core.NoticeDue, IDs: devices})
}

// resync starts anew after notices may have been missed.
func (r *relay) resync() {
	r.accounts.RevokeAll()
	r.gateway.LookAtAll()
	r.lookForKeys()
}

// lookForKeys has the keys that sign access tokens read again, soon.
func (r *relay) lookForKeys() {
	select {
	case r.keysReplaced <- struct{}{}:
	default:
	}
}

// workers run until requests and sockets have ended.
func (r *relay) workers() []func(context.Context) error {
	return []func(context.Context) error{
		r.accounts.Run, r.mailbox.RunSends, r.mailbox.RunAcknowledgements, r.keys.Run, r.gateway.Run, r.bus.Run,
		r.blobs.Run, r.push.Run,
		r.sweep, r.vacuum, r.rotate, r.deleteOrphans, r.watchReadiness, r.watchPressure,
	}
}

// drainTick is between two rounds of a drain, lastCall how long connections may take to end that
// have nothing to say any more.
const (
	drainTick = 20 * time.Millisecond
	lastCall  = time.Second
	// unreadGrace is how long a request that is still arriving has after the drain.
	unreadGrace = 2 * time.Second
)

// drain lets clients leave, one after the other, for another process that listens. New connections
// are that one's. Requests on old ones are answered, each as the last on its connection, and
// sockets are closed evenly over the time. Then connections end that no request came on.
func (r *relay) drain(doors *api.Listener, within time.Duration) {
	r.stopping.Store(true)
	_ = doors.Close() // what can fail is closed again below
	end := time.Now().Add(within)
	for left := within; left > 0 && doors.Open() > 0; left = time.Until(end) {
		r.gateway.CloseSome(float64(drainTick) / float64(left))
		<-time.After(drainTick)
	}
	if within > 0 { // the last round may have come too late
		r.gateway.CloseSome(1)
	}
	for last := time.Now().Add(lastCall); doors.EndIdle() > 0 && time.Now().Before(last); {
		<-time.After(drainTick)
	}
}

// closeDoors ends requests and sockets, bounded by a time. Requests that have been read whole and
// uploads that have been let in may use all of it, others unreadGrace.
func (r *relay) closeDoors(doors *api.Listener, timeout time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { r.gateway.Shutdown(ctx) })
	wg.Go(func() { r.uploads.Shutdown(ctx) })
	wg.Go(func() { _ = r.http.ShutdownWithContext(ctx) })
	wg.Go(func() {
		for begun := time.Now(); doors.Open() > 0 && ctx.Err() == nil; <-time.After(drainTick) {
			if time.Since(begun) > unreadGrace {
				doors.EndArriving()
			}
		}
	})
	wg.Wait()
	doors.Abandon() // what had not ended in time, and a listener that the server had not yet got hold of
	r.uploads.Abandon()
	last, end := context.WithTimeout(ctx, lastCall) // they keep nothing that could be lost
	defer end()
	for _, server := range []*http.Server{r.plain, r.management} {
		if server != nil {
			_ = errors.Join(server.Shutdown(last), server.Close())
		}
	}
	// Acknowledgements that an unavailable database does not take are given up when the time is
	// over.
	time.AfterFunc(timeout, r.mailbox.GiveUp)
}

const (
	sweepEvery  = 5 * time.Minute
	vacuumEvery = 10 * time.Second
	rotateEvery = time.Hour
	rotateRetry = 10 * time.Second
	walkEvery   = 24 * time.Hour
	forgetEvery = time.Hour
)

// vacuum keeps the queues small on somebody else's server, on one node at a time. The private
// server's autovacuum looks every second and needs no help.
func (r *relay) vacuum(ctx context.Context) error {
	if r.db.cluster != nil {
		return every(ctx, forgetEvery, func() { r.forget(ctx) })
	}
	return every(ctx, vacuumEvery, func() {
		_, err := r.db.async.WithLock(ctx, storage.LockVacuum, func() error { return r.db.async.Vacuum(ctx) })
		if err != nil && ctx.Err() == nil {
			r.logger.Warn("could not vacuum the tables of mail and keys; tried again in 10 seconds", "component",
				"database", "error", err)
		}
	})
}

// forget makes what was acknowledged leave the data folder of the private server. Autovacuum would
// leave a quiet table alone, and the server would keep a segment of its log until it is full.
func (r *relay) forget(ctx context.Context) {
	if err := errors.Join(r.db.async.Vacuum(ctx), postgres.Forget(ctx, r.db.url)); err != nil && ctx.Err() == nil {
		r.logger.Warn("could not make acknowledged mail leave the data folder; tried again in an hour", "component",
			"postgres", "error", err)
	}
}

// sweep forgets what has expired: in the database on one node at a time.
func (r *relay) sweep(ctx context.Context) error {
	return every(ctx, sweepEvery, func() {
		r.limits.Sweep()
		_, err := r.db.async.WithLock(ctx, storage.LockSweep, func() error {
			var errs []error
			for _, sweep := range []func(context.Context) error{r.accounts.Sweep, r.mailbox.Sweep, r.blobs.Sweep,
				r.push.Sweep, r.delivery.Sweep} {
				errs = append(errs, sweep(ctx))
			}
			return errors.Join(errs...)
		})
		if err != nil && ctx.Err() == nil {
			r.logger.Warn("could not remove all that has expired; tried again in 5 minutes, and none of it is delivered", "component", "sweep", "error", err)
		}
	})
}

// deleteOrphans looks for blobs that nobody knows, on one node at a time: an hour after the start,
// and then daily.
func (r *relay) deleteOrphans(ctx context.Context) error {
	var last time.Time
	return every(ctx, time.Hour, func() {
		if time.Since(last) < walkEvery {
			return
		}
		last = time.Now()
		_, err := r.db.async.WithLock(ctx, storage.LockWalk, func() error {
			found, err := r.blobs.DeleteOrphans(ctx)
			if found > 0 {
				r.logger.Warn("deleted blobs that the database does not name", "component", "blobs", "count", found)
			}
			return err
		})
		if err != nil && ctx.Err() == nil {
			r.logger.Warn("could not look for blobs that the database does not name; tried again in a day", "component",
				"blobs", "error", err)
		}
	})
}

// rotate looks whether a new signing key is due or was made elsewhere, and for the server key of
// certificates as it is now.
func (r *relay) rotate(ctx context.Context) error {
	ticker := time.NewTicker(rotateEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.keysReplaced:
		case <-ticker.C:
		}
		next := rotateEvery
		if err := r.accounts.Load(ctx); err == nil {
			r.accounts.RevokeAll() // what a key has verified that is gone
		} else if ctx.Err() == nil {
			next = rotateRetry
			r.logger.Warn("could not read the keys that sign tokens; those in memory stay in use, tried again in 10 seconds", "component", "accounts", "error", err)
		}
		if err := r.certificates.Load(ctx); err != nil && ctx.Err() == nil {
			r.logger.Warn("could not read the keys that sign certificates; those in memory stay in use, tried again in an hour", "component", "certificates", "error", err)
		}
		ticker.Reset(next)
	}
}

func every(ctx context.Context, d time.Duration, do func()) error {
	ticker := time.NewTicker(d)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			do()
		}
	}
}
