// Package app is the composition root: it builds everything, runs it, and stops it in order.
//
// Invariants: whatever was started is stopped and waited for before Run returns; requests and
// sockets end before the workers that serve them, those before the database pools, those before the
// private database. A part that fails stops the whole, and its error is returned.
package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sync/errgroup"

	"github.com/obscura-relay/obscura/internal/api"
	"github.com/obscura-relay/obscura/internal/core/push"
	"github.com/obscura-relay/obscura/internal/limit"
	"github.com/obscura-relay/obscura/internal/notice"
	"github.com/obscura-relay/obscura/internal/postgres"
	"github.com/obscura-relay/obscura/internal/storage"
)

// Addresses are where the relay listens.
type Addresses struct {
	// API and Management are URLs, such as http://127.0.0.1:3000, or https:// if the relay speaks
	// TLS.
	API, Management string
}

// startTimeout bounds the wait for a database that somebody else runs, and tries to start the
// private one again.
const startTimeout = time.Minute

// recoveryTimeout bounds a start of the private database, which after a crash reads its log again:
// 4 GB of it, perhaps on a slow disk. A start that was cut short would begin from the front.
const recoveryTimeout = 8 * time.Minute

// asyncConns serve acknowledgements, notices, wake-ups and sweeps.
const asyncConns = 4

// errStopped says that somebody ended the relay while it was starting.
var errStopped = errors.New("stopped before the database was ready")

// Run runs the relay until ctx ends. It tells where it listens through ready, once, when it does.
func Run(ctx context.Context, cfg Config, logOutput io.Writer, ready func(Addresses), options ...Option) error {
	limit.SpareProcessors()
	level := new(slog.LevelVar)
	level.Set(cfg.LogLevel)
	logger := newLogger(cfg.LogFormat, level, logOutput)
	l, err := listen(cfg)
	if err != nil {
		return err
	}
	defer l.close()
	at := Addresses{API: "http://" + l.api.Addr().String(), Management: "http://" + l.management.Addr().String()}
	if cfg.secure() {
		at.API = "https://" + l.api.Addr().String()
	}
	logger.Info("starting", "version", Version(), "documentation", at.API+"/docs")
	db, err := openDatabase(ctx, cfg.Database, cfg.DatabaseConnections, logger)
	if ctx.Err() != nil && err != nil {
		return errStopped
	}
	if err != nil {
		return err
	}
	options = append(options, func(r *relay) { r.level = level })
	err = serve(ctx, cfg, db, l, at, logger, ready, options)
	return errors.Join(err, db.close(cfg.ShutdownTimeout))
}

func serve(ctx context.Context, cfg Config, db *database, l listeners, at Addresses, logger *slog.Logger,
	ready func(Addresses), options []Option) error {
	// Before the first change: a pooler that loses notices may lose a migration's lock as well.
	if err := notice.Prove(ctx, db.url, db.main); err != nil {
		return err
	}
	if err := prepareSchema(ctx, cfg, db); err != nil {
		return err
	}
	vapid, err := cfg.vapidKey()
	if err == nil && vapid == nil {
		vapid, err = push.VAPIDKey(ctx, db.main)
	}
	if err != nil {
		return err
	}
	r, err := newRelay(cfg, db, vapid, logger, options)
	if err != nil {
		return err
	}
	if err := r.accounts.Load(ctx); err != nil {
		return err
	}
	if err := r.certificates.Load(ctx); err != nil {
		return err
	}
	encryption, err := newEncryption(cfg, l, r.renewals, logger)
	if err != nil {
		return err
	}

	// The parts stop in this order: doors (requests, sockets), then workers.
	workers, stopWorkers := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWorkers()
	g, running := errgroup.WithContext(ctx)
	for _, run := range r.workers() {
		g.Go(func() error { return run(workers) })
	}
	var secure *tls.Config
	if encryption != nil {
		secure = encryption.config
		r.metrics.Gauge("obscura_tls_certificate_expiry_seconds", "When the TLS certificate expires, in seconds since "+
			"1970; of several the first, 0 while one is missing.",
			func() int { return int(max(0, encryption.expiry().Unix())) })
		g.Go(func() error { return encryption.run(workers) })
	}
	doors := api.NewListener(l.api, cfg.TrustedProxies, secure)
	r.metrics.Gauge("obscura_connections", "Open connections to the API, sockets included.", doors.Open)
	refused := doors.Refused
	if l.plain != nil {
		r.plain = encryption.plainServer()
		plain := api.NewListener(l.plain, cfg.TrustedProxies, nil)
		defer plain.Abandon() // those that came too late to be served
		refused = func() int { return doors.Refused() + plain.Refused() }
		g.Go(func() error { return serveUntilClosed(r.plain, plain) })
	}
	r.metrics.Counter("obscura_connections_refused_total", "Connections closed before their first request, because too "+
		"many of an address or in all had not made theirs.", refused)
	g.Go(func() error { return r.http.Listener(doors) })
	g.Go(func() error { return serveUntilClosed(r.management, l.management) })
	g.Go(func() error { return db.watch(workers, logger) })
	g.Go(func() error {
		<-running.Done()
		logger.Info("stopping")
		r.drain(doors, cfg.DrainTime)
		r.closeDoors(doors, cfg.ShutdownTimeout)
		stopWorkers()
		return nil
	})
	logger.Info("listening", "api", at.API, "management", at.Management)
	if _, err := daemon.SdNotify(true, daemon.SdNotifyReady); err != nil {
		logger.Warn("could not tell systemd that the relay is ready; it may give up waiting",
			"component", "systemd", "error", err)
	}
	ready(at)
	err = g.Wait()
	logger.Info("stopped")
	return err
}

func prepareSchema(ctx context.Context, cfg Config, db *database) error {
	if err := db.main.CheckWhole(ctx); err != nil { // before anything is changed
		return err
	}
	if cfg.Migrate {
		if err := db.main.Migrate(ctx); err != nil {
			return fmt.Errorf("the schema cannot be brought up to date: %w", err)
		}
	}
	if err := db.main.CheckSchema(ctx); err != nil {
		return err
	}
	return db.async.CheckSchema(ctx) // it too learns how many buckets there are
}

// database is the pools, and the private server when there is one.
type database struct {
	url         string
	main, async *storage.DB
	private     postgres.Config
	cluster     *postgres.Cluster
}

func openDatabase(ctx context.Context, cfg Database, conns int32, logger *slog.Logger) (_ *database, err error) {
	d := &database{url: cfg.DatabaseURL}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.close(startTimeout))
		}
	}()
	if d.url == "" {
		folder, err := filepath.Abs(filepath.Join(cfg.DataDir, "postgres"))
		if err != nil {
			return nil, err
		}
		logger.Info("starting a private PostgreSQL", "folder", folder)
		if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
			return nil, errDataDir(cfg.DataDir, err)
		}
		d.private = postgres.Config{DataDir: folder, BinDir: cfg.PostgresBin, Logger: logger,
			MaxConnections: int(conns) + asyncConns + 16}
		if d.cluster, err = startPrivate(ctx, d.private); err != nil {
			return nil, err
		}
		d.url = d.cluster.URL()
	}
	// Pools outlive the context of the start.
	life := context.WithoutCancel(ctx)
	if d.main, err = storage.Open(life, d.url, storage.Options{MaxConns: conns, Logger: logger}); err != nil {
		return nil, err
	}
	if d.async, err = storage.Open(life, d.url,
		storage.Options{MaxConns: asyncConns, AsyncCommit: true, Logger: logger}); err != nil {
		return nil, err
	}
	return d, d.main.AwaitReady(ctx, startTimeout)
}

func startPrivate(ctx context.Context, cfg postgres.Config) (*postgres.Cluster, error) {
	ctx, cancel := context.WithTimeout(ctx, recoveryTimeout)
	defer cancel()
	return postgres.Start(ctx, cfg)
}

// watch starts the private server again when it dies, and ends with an error when that fails.
func (d *database) watch(ctx context.Context, logger *slog.Logger) error {
	if d.cluster == nil {
		return nil
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-d.cluster.Done():
		}
		logger.Error("the private PostgreSQL ended by itself; it is started again", "component", "postgres", "error",
			d.cluster.Err())
		if err := d.restart(ctx, logger); err != nil && ctx.Err() == nil {
			return fmt.Errorf("the private PostgreSQL cannot be started again: %w", err)
		}
	}
}

// restartPause is between two tries to start the private server.
const restartPause = 2 * time.Second

// restart begins no try after startTimeout.
func (d *database) restart(ctx context.Context, logger *slog.Logger) error {
	trying, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := d.cluster.Stop(trying); err != nil { // lets go of the folder
		return err
	}
	for {
		cluster, err := startPrivate(ctx, d.private)
		if err == nil {
			d.cluster = cluster
			if cluster.URL() != d.url {
				return errors.New("its socket is at another path than before")
			}
			return nil
		}
		select { // a full disk may have room in a while
		case <-trying.Done():
			return err
		case <-time.After(restartPause):
			logger.Warn("could not start the private PostgreSQL again; tried for a minute, then the relay ends",
				"component", "postgres", "error", err)
		}
	}
}

func (d *database) close(timeout time.Duration) error {
	if d.main != nil {
		d.main.Close()
	}
	if d.async != nil {
		d.async.Close()
	}
	if d.cluster == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return d.cluster.Stop(ctx)
}

// Migrate brings the schema up to date and ends.
func Migrate(ctx context.Context, cfg Database, logOutput io.Writer) error {
	logger := newLogger("auto", slog.LevelInfo, logOutput)
	db, err := openDatabase(ctx, cfg, asyncConns, logger)
	if err != nil {
		return err
	}
	err = db.main.CheckWhole(ctx)
	if err == nil {
		err = db.main.Migrate(ctx)
	}
	return errors.Join(err, db.close(startTimeout))
}
