package bench

import (
	"testing"
	"time"

	"github.com/alecthomas/kong"
)

func TestWhatMakesNoSenseIsRefused(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"relay", "--devices=0"}, {"relay", "--senders=0"}, {"relay", "--size=31"}, {"relay", "--size=262145"},
		{"relay", "--batch=0"}, {"relay", "--batch=101"}, {"relay", "--batch=100", "--size=40000"},
		{"relay", "--rate=-1"}, {"relay", "--shared", "--rate=1"}, {"relay", "--shared", "--floor"},
		{"relay", "--shared", "--batch=2"}, {"relay", "--shared", "--recipients=0"},
		{"relay", "--shared", "--recipients=11", "--devices=10"}, {"relay", "--shared", "--prefix=257"},
		{"relay", "--shared", "--prefix=-1"}, {"relay", "--shared", "--size=262144"},
		{"relay", "--shared", "--size=14000"},
		{"relay", "--duration=1ms"}, {"relay", "--warmup=-1s"}, {"relay", "--floor", "--url=http://127.0.0.1:1"},
		{"relay", "--floor", "--peer=http://127.0.0.1:1"}, {"bundles", "--callers=0"}, {"bundles", "--targets=0"},
		{"bundles", "--duration=1ms"},
		{"idle", "--sockets=0"}, {"idle", "--hold=1ms"},
		{"backlog", "--devices=0"}, {"backlog", "--envelopes=0"}, {"backlog", "--size=31"},
		{"backlog", "--patience=1ms"},
		{"connect", "--callers=0"}, {"connect", "--callers=251"}, {"connect", "--duration=1ms"},
		{"login", "--callers=0"}, {"login", "--duration=1ms"},
	} {
		if _, err := parse(t, args...); err == nil {
			t.Errorf("%v was taken", args)
		}
	}
}

type commands struct {
	Relay   RelayConfig   `cmd:""`
	Bundles BundlesConfig `cmd:""`
	Idle    IdleConfig    `cmd:""`
	Backlog BacklogConfig `cmd:""`
	Connect ConnectConfig `cmd:""`
	Login   LoginConfig   `cmd:""`
}

func parse(t *testing.T, args ...string) (*commands, error) {
	t.Helper()
	var c commands
	parser, err := kong.New(&c, kong.DefaultEnvars("OBSCURA"), kong.Exit(func(int) { t.Fatal("it exits") }))
	if err != nil {
		t.Fatal(err)
	}
	_, err = parser.Parse(args)
	return &c, err
}

func TestWhatIsNotSaidHasADefault(t *testing.T) {
	t.Parallel()
	c, err := parse(t, "relay")
	if err != nil {
		t.Fatal(err)
	}
	if r := c.Relay; r.Devices != 1000 || r.Senders != 256 || r.Size != 512 || r.Batch != 1 || r.Rate != 0 ||
		r.Duration != 10*time.Second || r.URL != "" {
		t.Errorf("%+v", r)
	}
	if c, err = parse(t, "bundles"); err != nil || !c.Bundles.Refill || c.Bundles.Callers != 64 {
		t.Errorf("%+v, %v", c.Bundles, err)
	}
}

// The load must never go to a database that the environment happens to name.
func TestTheEnvironmentNamesNoRelayAndNoDatabase(t *testing.T) {
	for _, name := range []string{"OBSCURA_URL", "OBSCURA_DATABASE_URL", "DATABASE_URL", "OBSCURA_MANAGEMENT"} {
		t.Setenv(name, "http://elsewhere.example")
	}
	c, err := parse(t, "relay")
	if err != nil || c.Relay.URL != "" || c.Relay.DatabaseURL != "" || c.Relay.Management != "" {
		t.Errorf("%+v, %v", c.Relay.Common, err)
	}
}
