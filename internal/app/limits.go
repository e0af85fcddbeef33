package app

import (
	"errors"
	"log/slog"
	"maps"
	"strings"

	"github.com/obscura-relay/obscura/internal/api"
	"github.com/obscura-relay/obscura/internal/limit"
)

// Rate is how a limit is written: events in a time.
type Rate = limit.Rate

// Rates are limits by their names.
type Rates map[string]limit.Rate

// UnmarshalText adds what a text like "sends=6000/1m,bundles=10/10m" says.
func (r *Rates) UnmarshalText(text []byte) error {
	if *r == nil {
		*r = Rates{}
	}
	for change := range strings.SplitSeq(string(text), ",") {
		name, value, found := strings.Cut(strings.TrimSpace(change), "=")
		var rate limit.Rate
		if err := rate.UnmarshalText([]byte(value)); !found || err != nil {
			return errors.New("it must look like sends=3000/1m")
		}
		(*r)[name] = rate
	}
	return nil
}

// OldLimits are the names that limits had before 0.10. They are read for one release.
type OldLimits struct {
	LimitRegister   limit.Rate `hidden:""`
	LimitLogIn      limit.Rate `hidden:"" name:"limit-log-in"`
	LimitRefresh    limit.Rate `hidden:""`
	LimitPassword   limit.Rate `hidden:""`
	LimitKeys       limit.Rate `hidden:""`
	LimitBundles    limit.Rate `hidden:""`
	LimitSends      limit.Rate `hidden:""`
	LimitTickets    limit.Rate `hidden:""`
	LimitUploads    limit.Rate `hidden:""`
	LimitDownloads  limit.Rate `hidden:""`
	LimitPushTokens limit.Rate `hidden:""`
}

// set returns those that somebody has set, by the names they have now.
func (o *OldLimits) set() map[string]limit.Rate {
	all := map[string]limit.Rate{"register": o.LimitRegister, "log-in": o.LimitLogIn, "refresh": o.LimitRefresh,
		"password": o.LimitPassword,
		"keys":     o.LimitKeys, "bundles": o.LimitBundles, "sends": o.LimitSends, "tickets": o.LimitTickets,
		"uploads":   o.LimitUploads,
		"downloads": o.LimitDownloads, "push-tokens": o.LimitPushTokens}
	maps.DeleteFunc(all, func(_ string, r limit.Rate) bool { return r == limit.Rate{} })
	return all
}

// warn tells of options that will go.
func (o *OldLimits) warn(logger *slog.Logger) {
	for name, r := range o.set() {
		logger.Warn("an option is deprecated; it is read for this release", "component", "configuration",
			"option", "--limit-"+name, "instead", "--limit "+name+"="+r.String())
	}
}

// rates makes the counters, nil when rate limits are off. An old name gives way to a new one.
func (c *Config) rates() (*api.Limits, error) {
	changed := c.set()
	maps.Copy(changed, c.Limits)
	limits, err := api.NewLimits(changed)
	if c.RateLimits == "off" {
		limits = nil
	}
	return limits, err
}
