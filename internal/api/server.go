// Package api is the contract layer: it implements the server interface that is generated from
// openapi.yaml and turns requests into calls of the use cases.
//
// Invariants: every route of the contract passes the same guard (authentication, limits, schema)
// before its handler; every error, also of routes that do not exist, leaves through one error
// handler as JSON; nothing of the input is repeated in an answer or a log. What a use case gets
// never points into Fiber's buffers, which are used again after the handler. On failure the caller
// hears a stable code.
package api

import (
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/middleware/cors"
	"github.com/google/uuid"
	"github.com/valyala/fasthttp"

	"github.com/obscura-relay/obscura/gen/api"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/core/account"
	"github.com/obscura-relay/obscura/internal/core/blob"
	"github.com/obscura-relay/obscura/internal/core/certificate"
	"github.com/obscura-relay/obscura/internal/core/deliverytoken"
	"github.com/obscura-relay/obscura/internal/core/device"
	"github.com/obscura-relay/obscura/internal/core/keys"
	"github.com/obscura-relay/obscura/internal/core/mailbox"
	"github.com/obscura-relay/obscura/internal/core/push"
	"github.com/obscura-relay/obscura/internal/limit"
)

// Observer counts requests.
type Observer interface {
	Request(operation string, status int, d time.Duration)
	// Gauge has something measured whenever somebody asks for it.
	Gauge(name, help string, value func() int)
}

// Config is what a Server needs.
type Config struct {
	Accounts *account.Service
	// Registration is who may register, for those who ask.
	Registration core.Registration
	Devices      *device.Service
	Keys         *keys.Service
	Mailbox      *mailbox.Service
	Blobs        *blob.Service
	// Uploads are those that run; whoever stops the server stops them too.
	Uploads *RunningUploads
	Push    *push.Service
	// Certificates are those of senders.
	Certificates *certificate.Service
	// DeliveryTokens are shown in place of an access token.
	DeliveryTokens *deliverytoken.Service
	// IsUpgrade reports whether a request asks for a WebSocket; Upgrade opens one for a device.
	IsUpgrade func(*fiber.Ctx) bool
	Upgrade   func(*fiber.Ctx, core.Principal) error
	// Version is what the page at / says of the relay.
	Version string
	// Contract and Frames are openapi.yaml and obscura.proto, served as they are.
	Contract, Frames []byte
	// Pressure says what has to give way now.
	Pressure func() limit.Pressure
	// Limits is nil when rate limits are off.
	Limits *Limits
	// TrustedProxies may say in X-Forwarded-For where a request comes from.
	TrustedProxies []netip.Prefix
	// Secure says that the relay itself speaks TLS.
	Secure bool
	// CORSOrigins may call from a browser; none when empty, "*" for any.
	CORSOrigins []string
	Timeouts    Timeouts
	// Stopping reports that each answer is the last on its connection.
	Stopping func() bool
	Observer Observer
	Logger   *slog.Logger
}

// Timeouts bound a connection and a request.
type Timeouts struct {
	// Read is how long a whole request may take to arrive, Write an answer to leave, Idle how long
	// a connection may wait for its next request, Request how long a handler may take.
	Read, Write, Idle, Request time.Duration
}

// headerBytes is the largest request header; beyond it the answer is 431. A connection has a buffer
// of this size from the first byte of a request until it has been read, and none while it idles or
// is a WebSocket.
const headerBytes = 16 << 10

// server implements the generated strict interface; the gateway and uploads are taken back from the
// strict layer.
type server struct {
	cfg        Config
	operations map[string]*operation
	parametric map[string]*operation // those with parameters in their paths
	literals   map[string][]string   // the methods of paths without parameters
	// bodies are those of requests with an access token, by user, and sealed those of requests that
	// show delivery tokens in them, by client address.
	bodies, sealed bodies
	exports        *limit.Pool
	downloads      downloads
	documents      *documents
	info           api.Info
	unreadHop      sync.Once // the log has been told of an X-Forwarded-For that cannot be read
}

var _ api.StrictServerInterface = (*server)(nil)

// routes is the generated interface with the gateway and uploads in our own hands.
type routes struct {
	api.ServerInterface
	server *server
}

// New makes the HTTP server of the contract.
func New(cfg Config) (*fiber.App, error) {
	spec, err := contract()
	if err != nil {
		return nil, err
	}
	operations := loadOperations(spec)
	documents, err := newDocuments(cfg.Version, cfg.Contract, cfg.Frames)
	if err != nil {
		return nil, err
	}
	s := &server{cfg: cfg, operations: operations, parametric: map[string]*operation{}, documents: documents,
		info: newInfo(spec.Info.Version, cfg.Registration), literals: map[string][]string{},
		exports: limit.NewPool(exportsAtOnce, exportsWaiting)}
	s.bodies = bodies{most: maxBodies, of: map[limitKey]int{}}
	s.sealed = bodies{most: maxSealedBodies, of: map[limitKey]int{}}
	s.downloads.of = map[uuid.UUID]int{}
	cfg.Observer.Gauge("obscura_body_bytes", "Bytes of bodies in memory, of those above 4 KiB.", s.bodies.inFlight)
	cfg.Observer.Gauge("obscura_sealed_body_bytes", "The same, of sealed requests.", s.sealed.inFlight)
	cfg.Observer.Gauge("obscura_uploads", "Attachments and backups that are arriving.", cfg.Uploads.count)
	cfg.Observer.Gauge("obscura_downloads", "Attachments and backups that are being sent.", s.downloads.count)
	for key, op := range operations {
		if !isLimited(op.id) {
			return nil, fmt.Errorf("no row of LimitTable names the operation %s", op.id)
		}
		if cfg.Limits != nil {
			op.limits = cfg.Limits.of[op.id]
		}
		if method, path, _ := strings.Cut(key, " "); !strings.Contains(path, ":") {
			s.literals[path] = append(s.literals[path], method)
		} else {
			s.parametric[key] = op
		}
	}
	app := fiber.New(fiber.Config{
		ErrorHandler:                 s.refuseUnread,
		BodyLimit:                    core.MaxSendBody,
		ReadBufferSize:               headerBytes,
		ReduceMemoryUsage:            true, // a socket that idles keeps no buffer of the HTTP server
		ReadTimeout:                  cfg.Timeouts.Read,
		WriteTimeout:                 cfg.Timeouts.Write,
		IdleTimeout:                  cfg.Timeouts.Idle,
		DisableStartupMessage:        true,
		DisablePreParseMultipartForm: true,
		DisableDefaultContentType:    true,
		CaseSensitive:                true,
		StrictRouting:                true,
	})
	app.Server().Handler = settled(knownMethods(app.Server().Handler))
	if cfg.Secure {
		app.Server().Handler = strict(app.Server().Handler)
	}
	app.Server().ConnState = noteState
	app.Server().HeaderReceived = s.askFirst
	app.Server().ExpectHandler = s.admit
	app.Use(s.observe)
	if len(cfg.CORSOrigins) > 0 {
		app.Use(crossOrigin(cfg.CORSOrigins))
	}
	app.Use(s.literalPath)
	app.Head("/v1/backup", func(c *fiber.Ctx) error { return s.guard(c, s.headBackup) })
	api.RegisterHandlersWithOptions(app, routes{api.NewStrictHandler(s, nil), s}, api.FiberServerOptions{
		HandlerMiddlewares: []api.HandlerMiddlewareFunc{s.guard},
	})
	return app, nil
}

// literalPath refuses the methods that a path without parameters does not have. Fiber would go on
// to routes with parameters: /v1/devices/keys is no device.
func (s *server) literalPath(c *fiber.Ctx) error {
	if methods := s.literals[c.Path()]; methods != nil && !slices.Contains(methods, c.Method()) {
		return fiber.ErrMethodNotAllowed
	}
	return c.Next()
}

// knownMethods gives methods that Fiber does not know a name that it does: it answers them itself,
// in plain text and past every middleware. No operation has TRACE, so they hear 405 or 404 like any
// other.
func knownMethods(next fasthttp.RequestHandler) fasthttp.RequestHandler {
	return func(c *fasthttp.RequestCtx) {
		if !slices.Contains(fiber.DefaultMethods, string(c.Method())) {
			c.Request.Header.SetMethod(fiber.MethodTrace)
		}
		next(c)
	}
}

// strict tells browsers to come by https alone, for a year (RFC 6797). A server that answers over
// plain HTTP must not say so. It is said before, for an upload, which takes the answer's header as
// it is, and after, since an error forgets the header.
func strict(next fasthttp.RequestHandler) fasthttp.RequestHandler {
	return func(c *fasthttp.RequestCtx) {
		stayWithTLS(c)
		next(c)
		stayWithTLS(c)
	}
}

func stayWithTLS(c *fasthttp.RequestCtx) {
	c.Response.Header.Set(fiber.HeaderStrictTransportSecurity, "max-age=31536000")
}

// exposedHeaders are those that a page of another origin may read.
const exposedHeaders = "X-Request-Id,Retry-After,ETag,Accept-Ranges,Content-Range"

// crossOrigin lets browsers of other origins call. Credentials are in headers and bodies, never in
// cookies, so they are not allowed along.
func crossOrigin(origins []string) fiber.Handler {
	cfg := cors.Config{
		AllowMethods: "GET,POST,PUT,DELETE,HEAD",
		AllowHeaders: "Authorization,Content-Type,Delivery-Token,Idempotency-Key,X-Request-Id,If-Match,If-None-Match," +
			"Range,If-Range",
		ExposeHeaders: exposedHeaders,
		MaxAge:        600,
	}
	allowed := map[string]bool{}
	for _, origin := range origins {
		allowed[origin] = true
	}
	if allowed["*"] {
		cfg.AllowOrigins = "*"
	} else {
		cfg.AllowOriginsFunc = func(origin string) bool { return allowed[origin] }
	}
	return cors.New(cfg)
}
