package app_test

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/obscura-relay/obscura/internal/app"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

func TestABadConfigurationIsRefusedWithASentence(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*app.Config){
		"--listen must be HOST:PORT, for example 127.0.0.1:3000":            func(c *app.Config) { c.Listen = "3000" },
		"--management-listen must be HOST:PORT, for example 127.0.0.1:3000": func(c *app.Config) { c.ManagementListen = "" },
		"--tls-certificate and --tls-key must be given together":            func(c *app.Config) { c.TLSKey = "key.pem" },
		"--domain gets a certificate, and --tls-certificate brings one: choose one of them": func(c *app.Config) {
			c.Domain, c.TLSCertificate, c.TLSKey = []string{"relay.example.org"}, "certificate.pem", "key.pem"
		},
		"--acme-url and --acme-email are of use with --domain only": func(c *app.Config) { c.ACMEEmail = "me@example.org" },
		"--acme-url must be the URL of a directory, for example https://acme.example.org/directory": func(c *app.Config) {
			c.Domain, c.ACMEURL = []string{"relay.example.org"}, "http://acme.example.org/"
		},
		"--http-listen leads to https: it needs --domain, or --tls-certificate and --tls-key": func(c *app.Config) { c.HTTPListen = ":80" },
		"--http-listen must be HOST:PORT, for example 127.0.0.1:3000": func(c *app.Config) {
			c.Domain, c.HTTPListen = []string{"relay.example.org"}, "80"
		},
		"--database-connections must be at least 4":                                                                func(c *app.Config) { c.DatabaseConnections = 3 },
		"--token-key must be at least 32 bytes in base64, for example from: openssl rand -base64 32":               func(c *app.Config) { c.TokenKey = "c2hvcnQ=" },
		"--cors-origins must be * or look like https://chat.example.org":                                           func(c *app.Config) { c.CORSOrigins = []string{"*", "chat.example.org"} },
		"--cors-origins must be in lower case and without a path, as browsers send them: https://chat.example.org": func(c *app.Config) { c.CORSOrigins = []string{"https://chat.example.org/"} },
		"--blob-url must look like file:///FOLDER or s3://BUCKET?region=REGION":                                    func(c *app.Config) { c.BlobURL = "ftp://secret@example.org" },
		"--attachment-quota and --attachment-daily-quota must have room for one attachment, 50MiB":                 func(c *app.Config) { c.AttachmentDailyQuota = 50<<20 - 1 },
		"--log-level must be debug, info, warn or error":                                                           func(c *app.Config) { c.LogLevel = slog.LevelError + 1 },
		"--nats-url must look like nats://nats.example.org:4222; in a password, write @ : / ? # % as %40 %3A %2F %3F %23 %25": func(c *app.Config) {
			c.NATSURL = "nats://nats.example.org,nats://somebody:hunter%zz2@127.0.0.1:1"
		},
		"--fcm-credentials cannot be used: the file cannot be opened: no such file or directory": func(c *app.Config) { c.FCMCredentials = "/nothing" },
		"--apns-key cannot be used: it is not a regular file": func(c *app.Config) {
			c.APNsKey, c.APNsKeyID, c.APNsTeamID, c.APNsTopic = "/dev/null", "1", "2", "3"
		},
		"--read-timeout must be at least 100ms":     func(c *app.Config) { c.ReadTimeout = 0 },
		"--write-timeout must be at least 100ms":    func(c *app.Config) { c.WriteTimeout = -1 },
		"--idle-timeout must be at least 100ms":     func(c *app.Config) { c.IdleTimeout = 99 * time.Millisecond },
		"--request-timeout must be at least 100ms":  func(c *app.Config) { c.RequestTimeout = 0 },
		"--poll-interval must be at least 100ms":    func(c *app.Config) { c.PollInterval = 0 },
		"--shutdown-timeout must be at least 100ms": func(c *app.Config) { c.ShutdownTimeout = 0 },
	} {
		cfg := relaytest.Config(t, "postgres://localhost/obscura")
		if err := cfg.Validate(); err != nil {
			t.Fatal(err)
		}
		change(&cfg)
		if err := cfg.Validate(); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
	for _, origin := range []string{"https://", "http://", "https://x.example/path", "https://x.example?q",
		"https://u@x.example",
		"https://X.example", "https://x.example#f", "https://x .example", "ftp://x.example", ""} {
		cfg := relaytest.Config(t, "")
		cfg.CORSOrigins = []string{origin}
		if cfg.Validate() == nil {
			t.Errorf("the origin %q is accepted", origin)
		}
	}
	for _, origin := range []string{"*", "https://x.example", "http://localhost:5173", "http://[::1]:8080"} {
		cfg := relaytest.Config(t, "")
		cfg.CORSOrigins = []string{origin}
		if err := cfg.Validate(); err != nil {
			t.Errorf("the origin %q: %v", origin, err)
		}
	}
	for name, good := range map[string]bool{"": true, "localhost": true, "somebody:hunter2@localhost:4222, tls://b.example": true,
		"nats://": false, "nats://a:4222,:x": false, "nats://somebody:hun/ter@a": false} {
		cfg := relaytest.Config(t, "")
		cfg.NATSURL = name
		if err := cfg.Validate(); (err == nil) != good {
			t.Errorf("NATS at %q: %v", name, err)
		}
	}
	for name, good := range map[string]bool{"relay.example.org": true, "a-b.xn--bcher-kva.example": true,
		"https://relay.example.org": false, "relay.example.org:443": false, "relay": false, "192.0.2.1": false,
		"Relay.example.org": false, "*.example.org": false, "relay..org": false, "-a.example": false, "": false} {
		cfg := relaytest.Config(t, "")
		cfg.Domain = []string{name}
		if err := cfg.Validate(); (err == nil) != good {
			t.Errorf("the domain %q: %v", name, err)
		}
	}
	for _, key := range []string{"!", strings.Repeat("A", 43), "c2hvcnQ", strings.Repeat("A", 40)} {
		cfg := relaytest.Config(t, "")
		cfg.TokenKey = key
		if err := cfg.Validate(); err == nil || len(key) > 10 && strings.Contains(err.Error(), key) {
			t.Errorf("the key %q: %v", key, err)
		}
	}
}

func TestASizeIsReadAsItIsWritten(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]app.Size{"10GiB": 10 << 30, "50MiB": 50 << 20, "3KiB": 3 << 10, "7B": 7,
		"1025MiB": 1025 << 20} {
		var s app.Size
		if err := s.UnmarshalText([]byte(text)); err != nil || s != want || s.String() != text {
			t.Errorf("%s: %d, %s, %v", text, s, s, err)
		}
	}
	for _, text := range []string{"", "10", "GiB", "-1GiB", "1.5GiB", "1 GiB", "1gib", "99999999999GiB", "1TiB",
		"1GB"} {
		var s app.Size
		if err := s.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is %s", text, s)
		}
	}
}

func TestAnUnknownVariableIsRefused(t *testing.T) {
	t.Parallel()
	known := map[string]bool{"OBSCURA_LISTEN": true}
	for _, environ := range [][]string{nil, {"HOME=/x", "OBSCURA_LISTEN=x"}, {"OBSCURA_TEST_DATABASE_URL=x"},
		{"MY_OBSCURA_X=1"}} {
		if err := app.UnknownVariable(environ, known); err != nil {
			t.Errorf("%v: %v", environ, err)
		}
	}
	err := app.UnknownVariable([]string{"OBSCURA_LISTEN=x", "OBSCURA_LISTN=secret"}, known)
	const want = "the environment variable OBSCURA_LISTN is not known; `obscura serve --help` lists those that are"
	if err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

func TestTheLogIsTextOrJSONOfALevel(t *testing.T) {
	t.Parallel()
	for format, start := range map[string]string{"json": `{"time":`, "auto": `{"time":`, "text": "time="} {
		relay := relaytest.Start(t, func(c *app.Config) { c.LogFormat = format; c.LogLevel = slog.LevelInfo })
		if !strings.HasPrefix(relay.Log.String(), start) || !strings.Contains(relay.Log.String(), relay.API) ||
			!strings.Contains(relay.Log.String(), relay.Management) {
			t.Errorf("%s: %s", format, relay.Log)
		}
	}
	quiet := relaytest.Start(t, func(c *app.Config) { c.LogLevel = slog.LevelError })
	quiet.Register(t)
	if quiet.Log.String() != "" {
		t.Errorf("at level error: %s", quiet.Log)
	}
}
