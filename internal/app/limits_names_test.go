package app

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/obscura-relay/obscura/internal/api"
	"github.com/obscura-relay/obscura/internal/limit"
)

func TestAnOldNameOfALimitGivesWayAndIsToldOf(t *testing.T) {
	t.Parallel()
	one := limit.Rate{Events: 1, Per: time.Hour}
	c := Config{OldLimits: OldLimits{LimitRegister: one, LimitLogIn: one, LimitRefresh: one, LimitPassword: one,
		LimitKeys: one, LimitBundles: one,
		LimitSends: one, LimitTickets: one, LimitUploads: one, LimitDownloads: one, LimitPushTokens: one}}
	known := map[string]bool{}
	for _, row := range api.LimitTable {
		known[row.Name] = true
	}
	if set := c.set(); len(set) != 11 {
		t.Errorf("%d old names", len(set))
	}
	for name := range c.set() {
		if !known[name] {
			t.Errorf("the old name %s leads nowhere", name)
		}
	}
	if l, err := c.rates(); err != nil || l == nil {
		t.Error(l, err)
	}
	var log strings.Builder
	c.OldLimits = OldLimits{LimitSends: one}
	c.warn(slog.New(slog.NewTextHandler(&log, nil)))
	if want := `option=--limit-sends instead="--limit sends=1/1h"`; !strings.Contains(log.String(), want) ||
		!strings.Contains(log.String(), "level=WARN") {
		t.Errorf("%s, want %s", &log, want)
	}
	c.Limits, c.RateLimits = map[string]limit.Rate{"frobs": one}, "off"
	if _, err := c.rates(); err == nil {
		t.Error("a limit that there is not is let pass while limits are off")
	}
}
