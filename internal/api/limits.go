package api

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/google/uuid"
	"github.com/valyala/fasthttp"

	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/core/mailbox"
	"github.com/obscura-relay/obscura/internal/limit"
)

// limitKey is an address, a user, a device, a delivery token's hash, or two users.
type limitKey [2 * len(uuid.UUID{})]byte

// counter counts for one row of the table.
type counter struct {
	*limit.Limiter[limitKey]
	per Per
}

// Limits counts requests. Make it with NewLimits; nil when rate limits are off.
type Limits struct {
	counters    []*counter
	of          map[string][]*counter // by operation
	credentials *counter
}

// NewLimits makes the counters of the table, with the rates that an operator has changed.
func NewLimits(changed map[string]limit.Rate) (*Limits, error) {
	l := &Limits{of: map[string][]*counter{}}
	var names []string
	for _, row := range LimitTable {
		names = append(names, row.Name)
		r, ok := changed[row.Name]
		if !ok {
			r = row.Default
		}
		c := &counter{limit.New[limitKey](r), row.Per}
		l.counters = append(l.counters, c)
		for _, id := range row.Operations {
			l.of[id] = append(l.of[id], c)
		}
		if row.Name == credentialsLimit {
			l.credentials = c
		}
	}
	for name := range changed {
		if !slices.Contains(names, name) {
			return nil, fmt.Errorf("there is no limit %q; the limits are %s", name, strings.Join(names, ", "))
		}
	}
	return l, nil
}

// Sweep forgets the keys at rest: addresses, and who fetched whose keys.
func (l *Limits) Sweep() {
	if l == nil {
		return
	}
	for _, c := range l.counters {
		c.Sweep()
	}
}

// throttle counts a request and refuses it when its caller makes too many. The guard does not know
// the caller of a public operation: its handler finds out, and counts again by user, device or
// delivery token.
func (s *server) throttle(c *fiber.Ctx, op *operation, who caller) error {
	for _, counter := range op.limits {
		if !counter.per.counts(who) {
			continue
		}
		if wait := counter.Take(s.limitKey(c, counter.per, who)); wait > 0 {
			return limited(wait)
		}
	}
	return nil
}

// counts reports whether a limit counts the requests of a caller.
func (p Per) counts(who caller) bool {
	switch p {
	case PerUser, PerDevice, PerTarget:
		return who.User != uuid.Nil
	case PerToken, PerTokenAddress:
		return who.token != core.DeliveryTokenHash{}
	}
	return true
}

// throttleMany counts a request to send once more for each further hundred of submissions: shared
// ones may stand for a thousand.
func (s *server) throttleMany(who caller, operation string, submissions int) error {
	if s.cfg.Limits == nil {
		return nil
	}
	for range (submissions - 1) / core.MaxSubmissions {
		for _, counter := range s.cfg.Limits.of[operation] {
			if !counter.per.counts(who) {
				continue
			}
			if wait := counter.Take(s.limitKey(nil, counter.per, who)); wait > 0 {
				return limited(wait)
			}
		}
	}
	return nil
}

// throttleTokens counts a sealed request by each of its tokens, once more for each further hundred
// of submissions with it. When one has no more, none counts.
func (s *server) throttleTokens(batch *mailbox.Batch) error {
	if s.cfg.Limits == nil {
		return nil
	}
	shown := map[limitKey]int{}
	var tokens []limitKey
	for i := range batch.Submissions {
		token := limitKey(batch.Submissions[i].Token)
		if shown[token]%core.MaxSubmissions == 0 {
			tokens = append(tokens, token)
		}
		shown[token]++
	}
	var giveBack []func()
	for _, counter := range s.cfg.Limits.of[sealedSends] {
		if counter.per != PerToken {
			continue
		}
		for _, token := range tokens {
			if wait := counter.Take(token); wait > 0 {
				for _, back := range giveBack {
					back()
				}
				return limited(wait)
			}
			giveBack = append(giveBack, func() { counter.GiveBack(token) })
		}
	}
	return nil
}

// limitKey is what a limit counts by. Without c the caller's address must be known.
func (s *server) limitKey(c *fiber.Ctx, per Per, who caller) (key limitKey) {
	switch per {
	case PerAddress, PerTokenAddress:
		if c == nil {
			return who.address
		}
		return addressKey(s.clientAddr(c.Context()))
	case PerUser:
		return userKey(who.User)
	case PerDevice:
		copy(key[:], who.Device[:])
	case PerTarget:
		target := targetUser(c)
		copy(key[copy(key[:], who.User[:]):], target[:])
	case PerToken:
		return limitKey(who.token)
	}
	return key
}

func userKey(user core.UserID) (key limitKey) {
	copy(key[:], user[:])
	return key
}

func addressKey(address netip.Addr) (key limitKey) {
	bytes := address.As16()
	copy(key[:], bytes[:])
	return key
}

// addr is the address that addressKey was made of.
func (k limitKey) addr() netip.Addr { return netip.AddrFrom16([16]byte(k[:])).Unmap() }

// prove looks at a credential that is not known to be good, which may take a query. Those that turn
// out bad are counted by address; while one is looked at it counts too, so that many at once are no
// way around.
func (s *server) prove(request *fasthttp.RequestCtx, look func() (core.Principal, error)) (core.Principal, error) {
	if s.cfg.Limits == nil {
		return look()
	}
	credentials := s.cfg.Limits.credentials
	key := addressKey(s.clientAddr(request))
	if wait := credentials.Take(key); wait > 0 {
		return core.Principal{}, limited(wait)
	}
	p, err := look()
	if core.KindOf(err) != core.Unauthorized {
		credentials.GiveBack(key)
	}
	return p, err
}

func limited(wait time.Duration) error {
	return &core.Error{Kind: core.Limited, Code: "rate_limited", RetryAfter: wait,
		Sentence: "Too many requests; wait before the next one."}
}

// clientAddr is where a request comes from: the connection's address, which is the one in a PROXY
// header if a trusted proxy sent one, or what a trusted proxy says in X-Forwarded-For. A proxy that
// sends a header passes on what follows as it is: where it names nobody, what X-Forwarded-For says
// would be a client's own words. An IPv6 address stands for its /64, which is what one customer
// has.
func (s *server) clientAddr(request *fasthttp.RequestCtx) netip.Addr {
	remote, _ := netip.AddrFromSlice(request.RemoteIP())
	addr := remote.Unmap()
	conn, ours := request.Conn().(*connection)
	if s.trusted(addr) && (!ours || !conn.unnamed) {
		// Every proxy appends the address it saw: the last one that is not a proxy is the client.
		// A proxy may also append a line of its own to what the client sent, so all lines count.
		lines := bytes.Join(request.Request.Header.PeekAll(fiber.HeaderXForwardedFor), []byte(","))
		hops := strings.Split(string(lines), ",")
		for _, hop := range slices.Backward(hops) {
			next, ok := parseHop(hop)
			if !ok {
				if len(lines) > 0 {
					s.unreadHop.Do(func() {
						s.cfg.Logger.Warn("X-Forwarded-For of a trusted proxy holds something else than an address; "+
							"its clients may share one rate limit", "component", "api")
					})
				}
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

// parseHop reads an address as proxies write it: alone, in brackets, with a port, or in quotes.
func parseHop(hop string) (netip.Addr, bool) {
	hop = strings.Trim(strings.TrimSpace(hop), `"`)
	if withPort, err := netip.ParseAddrPort(hop); err == nil {
		return withPort.Addr(), true
	}
	if len(hop) > 1 && hop[0] == '[' && hop[len(hop)-1] == ']' {
		hop = hop[1 : len(hop)-1]
	}
	addr, err := netip.ParseAddr(hop)
	return addr, err == nil
}

func (s *server) trusted(addr netip.Addr) bool { return within(s.cfg.TrustedProxies, addr) }

func within(networks []netip.Prefix, addr netip.Addr) bool {
	return slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Contains(addr) })
}
