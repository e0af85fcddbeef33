package api

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/limit"
)

// Rates are the configured limits.
type Rates struct {
	// Register, LogIn and Refresh are per client address (an IPv6 one by its /64).
	Register, LogIn, Refresh limit.Rate
	// Password is per user: changing the password and deleting the account.
	Password limit.Rate
	// Keys is per user: key uploads and device registrations, whose signatures cost milliseconds to check.
	Keys limit.Rate
	// Bundles is per calling device and target user.
	Bundles limit.Rate
	// Sends, Tickets and PushTokens are per device.
	Sends, Tickets, PushTokens limit.Rate
	// Uploads and Downloads are per device, of attachments and backups.
	Uploads, Downloads limit.Rate
}

type pair struct {
	caller core.DeviceID
	target core.UserID
}

// Limits counts requests against Rates.
type Limits struct {
	register, logIn, refresh *limit.Limiter[netip.Addr]
	password, keys           *limit.Limiter[core.UserID]
	sends, tickets, push     *limit.Limiter[core.DeviceID]
	uploads, downloads       *limit.Limiter[core.DeviceID]
	bundles                  *limit.Limiter[pair]
}

// NewLimits makes the counters.
func NewLimits(r Rates) *Limits {
	return &Limits{
		register: limit.New[netip.Addr](r.Register),
		logIn:    limit.New[netip.Addr](r.LogIn),
		refresh:  limit.New[netip.Addr](r.Refresh),
		password: limit.New[core.UserID](r.Password),
		keys:     limit.New[core.UserID](r.Keys),
		sends:    limit.New[core.DeviceID](r.Sends),
		tickets:  limit.New[core.DeviceID](r.Tickets),
		push:     limit.New[core.DeviceID](r.PushTokens),
		bundles:  limit.New[pair](r.Bundles),

		uploads:   limit.New[core.DeviceID](r.Uploads),
		downloads: limit.New[core.DeviceID](r.Downloads),
	}
}

// Sweep forgets whoever is at rest: addresses, and who fetched whose keys.
func (l *Limits) Sweep() {
	if l == nil {
		return
	}
	for _, limiter := range []interface{ Sweep() }{l.register, l.logIn, l.refresh, l.password, l.keys, l.sends, l.tickets, l.push, l.bundles, l.uploads, l.downloads} {
		limiter.Sweep()
	}
}

// throttle counts a request and refuses it when its caller makes too many.
func (s *server) throttle(c *fiber.Ctx, op *operation, p core.Principal) error {
	l := s.cfg.Limits
	if l == nil {
		return nil
	}
	var wait time.Duration
	switch op.id {
	case "createUser":
		wait = l.register.Take(s.clientAddr(c))
	case "createSession":
		wait = l.logIn.Take(s.clientAddr(c))
	case "refreshSession":
		wait = l.refresh.Take(s.clientAddr(c))
	case "changePassword", "deleteAccount":
		wait = l.password.Take(p.User)
	case "createDevice", "uploadKeys":
		wait = l.keys.Take(p.User)
	case "sendMessages":
		wait = l.sends.Take(p.Device)
	case "createGatewayTicket":
		wait = l.tickets.Take(p.Device)
	case "uploadAttachment", "uploadBackup":
		wait = l.uploads.Take(p.Device)
	case "downloadAttachment", "downloadBackup", "headBackup":
		wait = l.downloads.Take(p.Device)
	case "setPushToken", "deletePushToken", "getVapidKey":
		wait = l.push.Take(p.Device)
	}
	return limited(wait)
}

// throttleBundles counts a fetch of a target's bundles: nobody can drain another's one-time keys.
func (s *server) throttleBundles(p core.Principal, target core.UserID) error {
	if s.cfg.Limits == nil {
		return nil
	}
	return limited(s.cfg.Limits.bundles.Take(pair{p.Device, target}))
}

// throttleConnect counts an upgrade by bearer token like the ticket it replaces.
func (s *server) throttleConnect(p core.Principal) error {
	if s.cfg.Limits == nil {
		return nil
	}
	return limited(s.cfg.Limits.tickets.Take(p.Device))
}

func limited(wait time.Duration) error {
	if wait == 0 {
		return nil
	}
	return &core.Error{Kind: core.Limited, Code: "rate_limited", RetryAfter: wait,
		Sentence: "Too many requests; wait before the next one."}
}

// clientAddr is where a request comes from: the socket's address, or what a trusted proxy says. An
// IPv6 address stands for its /64, which is what one customer has.
func (s *server) clientAddr(c *fiber.Ctx) netip.Addr {
	remote, _ := netip.AddrFromSlice(c.Context().RemoteIP())
	addr := remote.Unmap()
	if s.trusted(addr) {
		// Every proxy appends the address it saw: the last one that is not a proxy is the client.
		// A proxy may also append a line of its own to what the client sent, so all lines count.
		lines := bytes.Join(c.Request().Header.PeekAll(fiber.HeaderXForwardedFor), []byte(","))
		hops := strings.Split(string(lines), ",")
		for _, hop := range slices.Backward(hops) {
			next, err := netip.ParseAddr(strings.TrimSpace(hop))
			if err != nil {
				break
			}
			addr = next.Unmap().WithZone("")
			if !s.trusted(addr) {
				break
			}
		}
	}
	if addr.Is6() {
		return netip.PrefixFrom(addr, 64).Masked().Addr()
	}
	return addr
}

func (s *server) trusted(addr netip.Addr) bool {
	return slices.ContainsFunc(s.cfg.TrustedProxies, func(p netip.Prefix) bool { return p.Contains(addr) })
}
