package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"github.com/obscura-relay/obscura/internal/api"
	"github.com/obscura-relay/obscura/internal/limit"
)

const limitsIntroduction = `
## Rate limits

` + "`--limit sends=6000/1m --limit bundles=10/10m`" + `, or ` + "`OBSCURA_LIMITS=sends=6000/1m,bundles=10/10m`" + `,
changes some of these and leaves the others as they are. Each node counts for itself. An IPv6
address stands for its /64. What is refused is answered with 429 and ` + "`Retry-After`" + `, and not counted.

`

// limitsTable writes LimitTable, from which the guard counts.
func limitsTable() string {
	var b strings.Builder
	b.WriteString("| name | what is counted | default | per |\n|---|---|---|---|\n")
	for _, row := range api.LimitTable {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", row.Name, row.What, row.Default, row.Per)
	}
	return b.String()
}

const (
	readme      = "../../README.md"
	limitsBegin = "<!-- Written by: go test ./cmd/obscura -run TestTheLimitsInTheReadme -update -->\n\n"
	limitsEnd   = "\n<!-- The end of what is written. -->\n"
)

func TestTheLimitsInTheReadmeAreThoseOfTheTable(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(readme)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, begun := strings.Cut(string(text), limitsBegin)
	_, after, ended := strings.Cut(rest, limitsEnd)
	if !begun || !ended {
		t.Fatal("README.md has lost the marks around the table of limits")
	}
	want := before + limitsBegin + limitsTable() + limitsEnd + after
	if *update {
		if err := os.WriteFile(readme, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if string(text) != want {
		t.Error("the limits in README.md are stale, run: go test ./cmd/obscura -run TestTheLimitsInTheReadme -update")
	}
}

// The variables and flags of single limits are read for one release beside the one that replaced
// them.
func TestALimitIsChangedByFlagVariableOrOldName(t *testing.T) {
	one, two := limit.Rate{Events: 1, Per: time.Hour}, limit.Rate{Events: 2, Per: time.Hour}
	t.Setenv("OBSCURA_LIMITS", "bundles=1/1h,daily-sends=2/1h")
	t.Setenv("OBSCURA_LIMIT_LOG_IN", "2/1h")
	var c cli
	parser, err := kong.New(&c, kong.Name("obscura"), kong.DefaultEnvars("OBSCURA"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse([]string{"serve", "--limit-push-tokens=1/1h"}); err != nil {
		t.Fatal(err)
	}
	if got := c.Serve.Limits; len(got) != 2 || got["bundles"] != one || got["daily-sends"] != two {
		t.Errorf("by the variable: %v", got)
	}
	if c.Serve.LimitLogIn != two || c.Serve.LimitPushTokens != one || c.Serve.LimitSends.Events != 0 {
		t.Errorf("by old names: %+v", c.Serve.OldLimits)
	}
	if _, err := parser.Parse([]string{"serve", "--limit=sends=1/1h", "--limit", "log-in=2/1h"}); err != nil {
		t.Fatal(err)
	}
	if got := c.Serve.Limits; got["sends"] != one || got["log-in"] != two {
		t.Errorf("by flags: %v", got)
	}
}
