package postgres

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
)

// What initdb says on a full disk is five lines; the first that failed is the reason.
func TestTheReasonOfAFailedInitdbIsOneLine(t *testing.T) {
	t.Parallel()
	failed := errors.New("exit status 1")
	for said, want := range map[string]string{
		"2026-11-27 08:24:52.348 UTC [1] FATAL:  could not extend file \"base/1/2691\": No space left on device\n" +
			"2026-11-27 08:24:52.348 UTC [1] HINT:  Check free disk space.\n2026-11-27 08:24:52.348 UTC [1] PANIC:  cannot abort\nAborted\n": "could not extend file \"base/1/2691\": No space left on device (exit status 1)",
		"initdb: error: could not create directory \"x\": No space left on device\n": "could not create directory \"x\": No space left on device (exit status 1)",
		"Killed\nby somebody\n": "exit status 1: Killed by somebody",
	} {
		if got := reason(said, failed).Error(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestAnAutovacuumThatIsStoppedIsNoWarning(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"autovacuum worker|FATAL:  terminating autovacuum process due to administrator command": "level=DEBUG",
		"autovacuum worker|FATAL:  out of memory":                                               "level=WARN",
	} {
		var out bytes.Buffer
		w := &logWriter{log: slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))}
		if w.line(line); !strings.Contains(out.String(), want) {
			t.Errorf("%s: %s", line, out.String())
		}
	}
}
