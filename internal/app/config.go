package app

import (
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/core/blob"
	"github.com/obscura-relay/obscura/internal/notice"
	"github.com/obscura-relay/obscura/internal/storage"
)

// Config is everything that an operator can set: as a flag, as OBSCURA_… in the environment, or by
// its default. docs/configuration.md is written from it.
type Config struct {
	Listen           string `placeholder:"ADDRESS" help:"Address of the API. Port 0 takes any free one. Without it: :443 with --domain, else 127.0.0.1:3000."`
	ManagementListen string `default:"127.0.0.1:9090" placeholder:"ADDRESS" help:"Address of /livez, /readyz, /metrics and /log-level. Keep it away from the public. Prometheus itself listens on 9090 by default: on its machine choose another port."`

	TLS

	Database
	DatabaseConnections int32 `default:"16" placeholder:"N" help:"Largest number of connections for requests. Five more are used for acknowledgements and notices, and now and then one to vacuum."`
	Migrate             bool  `default:"true" negatable:"" help:"Bring the schema up to date at the start. Without it an older schema is refused."`

	BlobURL              string `name:"blob-url" placeholder:"URL" help:"Where attachments and backups are kept: file:///FOLDER, which must exist, or s3://BUCKET?region=REGION; credentials for S3 come from the usual AWS_* variables. Without it: the folder blobs in the data folder."`
	AttachmentQuota      Size   `default:"10GiB" placeholder:"SIZE" help:"How much an account keeps in attachments at once."`
	AttachmentDailyQuota Size   `default:"2GiB" placeholder:"SIZE" help:"How much an account uploads in attachments in a day (UTC)."`

	NATSURL string `name:"nats-url" placeholder:"URL" help:"NATS server that carries notices between nodes. Without it PostgreSQL does."`

	Registration core.Registration `enum:"open,invite,closed" default:"open" help:"Who may register: anybody, those who have an invitation (obscura admin invite create), or nobody. Users who are there stay."`

	TokenKey string `placeholder:"BASE64" help:"Key that signs access tokens, at least 32 bytes in base64. Without it keys are kept in the database and rotate."`

	Certificates

	CORSOrigins    []string       `name:"cors-origins" placeholder:"ORIGIN" help:"Origins whose pages may call the API from a browser; * for any."`
	TrustedProxies []netip.Prefix `placeholder:"CIDR" help:"Proxies whose X-Forwarded-For, or header of the PROXY protocol, is believed. Without any the address is the socket's."`

	RateLimits string `enum:"on,off" default:"on" help:"Turn all rate limits off, for load tests. Size limits stay."`
	Limits     Rates  `name:"limit" env:"OBSCURA_LIMITS" placeholder:"NAME=N/TIME" help:"Change a rate limit; the names are in the table of the README. May be repeated; in the variable separated by commas."`
	OldLimits

	Push

	Reserves

	ReadTimeout     time.Duration `default:"20s" placeholder:"TIME" help:"How long a request may take to arrive."`
	WriteTimeout    time.Duration `default:"20s" placeholder:"TIME" help:"How long an answer may take to leave."`
	IdleTimeout     time.Duration `default:"60s" placeholder:"TIME" help:"How long a connection may wait for its next request."`
	RequestTimeout  time.Duration `default:"15s" placeholder:"TIME" help:"How long the relay works on a request before it answers 503."`
	PollInterval    time.Duration `default:"5s" placeholder:"TIME" help:"How often the mailboxes of live sockets are looked at in case a notice was lost."`
	DrainTime       time.Duration `default:"3s" placeholder:"TIME" help:"When the relay stops: the time over which sockets are closed, one after the other, while requests on open connections are still answered. 0: all at once."`
	ShutdownTimeout time.Duration `default:"10s" placeholder:"TIME" help:"How long requests that have been read and sockets have to end after that; others have two seconds."`

	LogFormat string     `enum:"auto,text,json" default:"auto" help:"auto: text on a terminal, JSON otherwise."`
	LogLevel  slog.Level `default:"info" placeholder:"LEVEL" help:"debug, info, warn or error. PUT /log-level on the management port changes it while the relay runs."`
	Pprof     bool       `help:"Serve Go's profiles at /debug/pprof on the management port."`
}

// Database says where the data is.
type Database struct {
	DatabaseURL string `name:"database-url" env:"OBSCURA_DATABASE_URL,DATABASE_URL" placeholder:"URL" help:"PostgreSQL to use. Without it the relay runs a private one in the data folder."`
	DataDir     string `default:"data" placeholder:"FOLDER" help:"Folder of the private PostgreSQL, and of the blobs unless they are elsewhere."`
	PostgresBin string `placeholder:"FOLDER" help:"Folder of the PostgreSQL programs, when they are not found by themselves."`
}

// Validate refuses a URL that cannot be one of PostgreSQL.
func (d *Database) Validate() error {
	if d.DatabaseURL == "" {
		return nil
	}
	return storage.CheckURL(d.DatabaseURL)
}

// Validate returns one exact sentence for what is wrong. kong calls it.
func (c *Config) Validate() error {
	if err := c.Database.Validate(); err != nil {
		return err
	}
	if err := c.validateTLS(); err != nil {
		return err
	}
	addresses := map[string]string{"--listen": c.listen(), "--management-listen": c.ManagementListen}
	if plain := c.httpListen(); plain != "" {
		addresses["--http-listen"] = plain
	}
	for flag, address := range addresses {
		if _, _, err := net.SplitHostPort(address); err != nil {
			return fmt.Errorf("%s must be HOST:PORT, for example 127.0.0.1:3000", flag)
		}
	}
	if c.DatabaseConnections < 4 {
		return errors.New("--database-connections must be at least 4")
	}
	if _, err := c.tokenKey(); err != nil {
		return err
	}
	if err := c.validateCertificates(); err != nil {
		return err
	}
	if _, err := c.ownKeys(); err != nil { // before anything is changed
		return err
	}
	if c.BlobURL != "" {
		if err := blob.CheckURL(c.BlobURL); err != nil {
			return err
		}
	}
	if err := notice.CheckNATSURL(c.NATSURL); err != nil {
		return err
	}
	if c.AttachmentQuota < core.MaxAttachment || c.AttachmentDailyQuota < core.MaxAttachment {
		return errors.New("--attachment-quota and --attachment-daily-quota must have room for one attachment, 50MiB")
	}
	if _, err := c.rates(); err != nil {
		return err
	}
	if err := c.validatePush(); err != nil {
		return err
	}
	if c.ReserveQueues < 0 || c.ReserveQueues > 100 {
		return errors.New("--reserve-queues must be a number of percent, from 0 to 100")
	}
	for _, origin := range c.CORSOrigins {
		if origin != "*" && !strings.HasPrefix(origin, "http://") && !strings.HasPrefix(origin, "https://") {
			return errors.New("--cors-origins must be * or look like https://chat.example.org")
		}
		if u, err := url.Parse(origin); origin != "*" &&
			(err != nil || u.Host == "" || origin != u.Scheme+"://"+strings.ToLower(u.Host)) {
			return errors.New("--cors-origins must be in lower case and without a path, as browsers send them: https://chat.example.org")
		}
	}
	if !isLevel(c.LogLevel) {
		return errors.New("--log-level must be debug, info, warn or error")
	}
	if c.DrainTime < 0 {
		return errors.New("--drain-time must not be negative")
	}
	for flag, d := range map[string]time.Duration{
		"--read-timeout": c.ReadTimeout, "--write-timeout": c.WriteTimeout, "--idle-timeout": c.IdleTimeout,
		"--request-timeout": c.RequestTimeout, "--poll-interval": c.PollInterval,
		"--shutdown-timeout": c.ShutdownTimeout,
	} {
		if d < 100*time.Millisecond {
			return fmt.Errorf("%s must be at least 100ms", flag)
		}
	}
	return nil
}

// listen is the address of the API.
func (c *Config) listen() string {
	switch {
	case c.Listen != "":
		return c.Listen
	case len(c.Domain) > 0:
		return ":443"
	}
	return "127.0.0.1:3000"
}

// minTokenKey is the least size of an operator's own key, in bytes: that of the hash (RFC 7518,
// 3.2).
const minTokenKey = 32

func (c *Config) tokenKey() ([]byte, error) {
	if c.TokenKey == "" {
		return nil, nil
	}
	key, err := base64.StdEncoding.DecodeString(c.TokenKey)
	if err != nil || len(key) < minTokenKey {
		return nil, errors.New("--token-key must be at least 32 bytes in base64, for example from: openssl rand -base64 32")
	}
	return key, nil
}

// blobURL is where blobs are kept. The default folder is made; one that an operator names has to be
// there.
func (c *Config) blobURL() (string, error) {
	if c.BlobURL != "" {
		return c.BlobURL, nil
	}
	folder := filepath.Join(c.DataDir, "blobs")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return "", errDataDir(c.DataDir, err)
	}
	return blob.FolderURL(folder)
}

// errDataDir says what to change when nothing can be made in the data folder.
func errDataDir(folder string, err error) error {
	if whole, absErr := filepath.Abs(folder); absErr == nil {
		folder = whole
	}
	return fmt.Errorf("the data folder %s cannot be made or written to: %w: name another with --data-dir (OBSCURA_DATA_DIR), "+
		"or make it and give it to the user that runs the relay", folder, err)
}

// UnknownVariable returns an error for a variable in environ that starts with OBSCURA_ and is none
// of the known ones: a typo must not silently mean the default. OBSCURA_TEST_… is for tests.
func UnknownVariable(environ []string, known map[string]bool) error {
	for _, entry := range environ {
		name, _, _ := strings.Cut(entry, "=")
		if strings.HasPrefix(name, "OBSCURA_") && !strings.HasPrefix(name, "OBSCURA_TEST_") && !known[name] {
			return fmt.Errorf("the environment variable %s is not known; `obscura serve --help` lists those that are",
				name)
		}
	}
	return nil
}
