package certificate

import (
	"testing"
	"time"

	"github.com/obscura-relay/obscura/internal/kit/testdb"
)

func TestMain(m *testing.M) { testdb.Main(m) }

func TestExpiryIsTheNextFullHour(t *testing.T) {
	t.Parallel()
	zone := time.FixedZone("half an hour off", 90*60)
	for now, want := range map[string]string{
		"2026-01-01T10:00:00Z":         "2026-01-02T10:00:00Z",
		"2026-01-01T10:00:00.000001Z":  "2026-01-02T11:00:00Z",
		"2026-01-01T10:59:59.999999Z":  "2026-01-02T11:00:00Z",
		"2026-01-01T23:30:00Z":         "2026-01-03T00:00:00Z",
		"2026-03-29T02:30:00.5+02:00":  "2026-03-30T01:00:00Z",
		"2026-01-01T10:15:00.25+05:45": "2026-01-02T05:00:00Z",
	} {
		at, err := time.Parse(time.RFC3339Nano, now)
		if err != nil {
			t.Fatal(err)
		}
		if got := expiry(at.In(zone)).Format(time.RFC3339Nano); got != want {
			t.Errorf("asked for at %s it expires at %s, want %s", now, got, want)
		}
	}
}
