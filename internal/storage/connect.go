package storage

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"
)

// The setting that leads to the database, for sentences that say what to change.
const setting = "--database-url (OBSCURA_DATABASE_URL)"

// explain says why a connection cannot be had, and whether that stays so until somebody changes
// something. It repeats what the server says to a connection before its first statement, which
// names users, databases and settings; the password is taken out whatever it says.
func explain(err *pgconn.ConnectError) (reason string, final bool) {
	var passing, refused []string
	for _, one := range leaves(err.Unwrap()) {
		text, refusal := explainOne(one, err.Config)
		switch {
		case text == "":
		case refusal:
			refused = append(refused, text)
		default:
			passing = append(passing, text)
		}
	}
	reasons := passing
	// A server that answers decides; where none does, one that may come is waited for.
	final = len(refused) > 0 && (len(passing) == 0 || answered(err))
	if final {
		reasons = refused
	}
	slices.Sort(reasons)
	reason = fmt.Sprintf("PostgreSQL at %s: %s", where(err.Config), strings.Join(slices.Compact(reasons), "; "))
	if password := err.Config.Password; password != "" {
		reason = strings.ReplaceAll(reason, password, "…")
	}
	return reason, final
}

// answered reports whether a server spoke to us.
func answered(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg)
}

// leaves are the errors of the single tries: an address each, with and without TLS.
func leaves(err error) []error {
	for at := err; at != nil; at = errors.Unwrap(at) {
		if many, ok := at.(interface{ Unwrap() []error }); ok {
			var out []error
			for _, one := range many.Unwrap() {
				out = append(out, leaves(one)...)
			}
			return out
		}
	}
	return []error{err}
}

// explainOne says why one try failed; "" when another one tells more.
func explainOne(err error, cfg *pgconn.Config) (text string, final bool) {
	var (
		pg    *pgconn.PgError
		dns   *net.DNSError
		errno syscall.Errno
	)
	switch {
	case errors.As(err, &pg):
		return explainRefusal(pg)
	case errors.As(err, &dns) && dns.IsNotFound:
		return fmt.Sprintf("the host name %q is not known: check the host in %s", dns.Name, setting), true
	case isTLS(err):
		if mayBePlain(cfg) {
			return "", false // the try without TLS tells
		}
		return fmt.Sprintf("%s: check sslmode and sslrootcert in %s, or the server's certificate", explainTLS(err),
			setting), true
	case errors.As(err, &dns):
		return fmt.Sprintf("the host name %q cannot be looked up now", dns.Name), false
	case errors.As(err, &errno):
		return errno.Error(), errno == syscall.EACCES
	case pgconn.Timeout(err), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return "no answer in time", false
	default: // the end of a connection, or something that is not PostgreSQL
		return "the connection ended without an answer that PostgreSQL would give", false
	}
}

// explainRefusal says what a server answered, and what to change if it will say the same again.
func explainRefusal(pg *pgconn.PgError) (text string, final bool) {
	refusal := fmt.Sprintf("%s (SQLSTATE %s)", pg.Message, pg.Code)
	advise := func(what string) (string, bool) { return refusal + ": " + what + " " + setting, true }
	switch {
	case pg.Code == "28P01":
		return advise("check the user and the password in")
	case strings.HasPrefix(pg.Code, "28"):
		return advise("check the server's pg_hba.conf, and the user in")
	case pg.Code == "3D000":
		return advise("create the database, or change its name in")
	case pg.Code == "42501":
		return advise("grant the user CONNECT, or change the user or the database in")
	// PgBouncer
	case pg.Code == "08P01" && (strings.Contains(pg.Message, "no such") || strings.Contains(pg.Message, "auth")):
		return advise("check the user, the password and the database in")
	case strings.Contains(pg.Message, "startup parameter"):
		return advise("a pooler refuses a setting that the relay needs: name PostgreSQL itself in")
	case strings.HasPrefix(pg.Code, "42"), strings.HasPrefix(pg.Code, "22"), strings.HasPrefix(pg.Code, "0A"),
		pg.Code == "55000":
		return advise("the server will not take such a connection: change")
	default: // starting up, shutting down, too many connections
		return refusal, false
	}
}

// errNoTLS is what the driver says, for which it has no type.
const errNoTLS = "server refused TLS connection"

func isTLS(err error) bool {
	var alert tls.AlertError
	var record tls.RecordHeaderError
	return isCertificate(err) || errors.As(err, &alert) || errors.As(err, &record) ||
		strings.Contains(err.Error(), errNoTLS)
}

func isCertificate(err error) bool {
	var verification *tls.CertificateVerificationError
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	return errors.As(err, &verification) || errors.As(err, &authority) || errors.As(err, &host) ||
		errors.As(err, &invalid)
}

func explainTLS(err error) string {
	var host x509.HostnameError
	switch {
	case strings.Contains(err.Error(), errNoTLS):
		return "the server does not speak TLS"
	case errors.As(err, &host):
		return fmt.Sprintf("the server's certificate is not for the host name %q", host.Host)
	case isCertificate(err):
		return "the server's certificate is not trusted"
	default:
		return "the server does not agree on TLS"
	}
}

// mayBePlain reports whether a connection without TLS would do.
func mayBePlain(cfg *pgconn.Config) bool {
	return cfg.TLSConfig == nil || slices.ContainsFunc(cfg.Fallbacks, func(f *pgconn.FallbackConfig) bool {
		return f.TLSConfig == nil
	})
}

// where names the addresses of a configuration.
func where(cfg *pgconn.Config) string {
	name := func(host string, port uint16) string {
		if strings.HasPrefix(host, "/") {
			return host
		}
		return net.JoinHostPort(host, strconv.Itoa(int(port)))
	}
	all := []string{name(cfg.Host, cfg.Port)}
	for _, f := range cfg.Fallbacks {
		if at := name(f.Host, f.Port); !slices.Contains(all, at) {
			all = append(all, at)
		}
	}
	return strings.Join(all, ", ")
}

// explainURL says what is wrong with a URL, without repeating it: it may hold a password.
func explainURL(err error) error {
	var (
		parse *pgconn.ParseConfigError
		path  *fs.PathError
	)
	if !errors.As(err, &parse) {
		return err
	}
	if errors.As(err, &path) {
		return fmt.Errorf("the file %s, which it names, cannot be read: %w", path.Path, path.Err)
	}
	_, detail, _ := strings.Cut(parse.Error(), "`: ")
	for part, sentence := range map[string]string{
		"invalid port":         "its port must be a number from 1 to 65535; in a password, write @ : / ? # % as %40 %3A %2F %3F %23 %25",
		"in password":          "in its password, write @ : / ? # % and spaces as %40 %3A %2F %3F %23 %25 %20",
		"sslmode":              "its sslmode must be disable, allow, prefer, require, verify-ca or verify-full",
		"sslkey":               "sslcert and sslkey must name files with a certificate and its key, both",
		"connect_timeout":      "its connect_timeout, or PGCONNECT_TIMEOUT in the environment, must be a number of seconds",
		"target_session_attrs": "its target_session_attrs, or PGTARGETSESSIONATTRS in the environment, is not one that PostgreSQL knows",
		"service":              "the service that it, or PGSERVICE in the environment, names is not in the service file",
	} {
		if strings.Contains(detail, part) {
			return errors.New(sentence)
		}
	}
	return errors.New("it must look like postgres://user@host/database")
}
