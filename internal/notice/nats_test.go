package notice

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

func TestNATSThatIsUnavailableIsSaidAtTheStart(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	h, err := dialNATS("nats://somebody:hunter2hunter2@127.0.0.1:1", func(string) {}, func() {},
		slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	h.close()
	if said := log.String(); !strings.Contains(said, "level=WARN") ||
		!strings.Contains(said, "NATS is unavailable; polls find the mail") ||
		!strings.Contains(said, "reason=") || strings.Contains(said, "hunter2") || strings.Contains(said, "somebody") {
		t.Errorf("the log: %s", said)
	}
}

func TestReasonsOfNATSHoldNoPassword(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"nats://somebody:hunter2%zz@127.0.0.1:1", "nats://somebody:hun/ter2@127.0.0.1:1",
		"nats://127.0.0.1:1,nats://somebody:hunter2@127.0.0.1:x", "nats://somebody:hunter2@127.0.0.1:1",
		"somebody:hunter2@127.0.0.1:1"} {
		if err := TryNATS(address); err == nil || strings.Contains(err.Error(), "hun") ||
			strings.Contains(err.Error(), "somebody") {
			t.Errorf("%s: %v", address, err)
		}
	}
}
