package storage

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/obscura-relay/obscura/internal/core"
)

// IsNoRows reports whether a query for one row found none.
func IsNoRows(err error) bool { return errors.Is(err, pgx.ErrNoRows) }

// NoRowsAs returns as when err says that a query for one row found none, else err.
func NoRowsAs(err, as error) error {
	if IsNoRows(err) {
		return as
	}
	return err
}

// IsLockTimeout reports, within a transaction's function, that a lock was not to be had in time.
func IsLockTimeout(err error) bool { return hasState(err, "55P03") }

func hasState(err error, state string) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == state
}

// errText is the answer to a text with the character zero, which JSON has and PostgreSQL does not.
var errText = core.NewError(core.Invalid, "invalid_text", "A text holds the character U+0000, which cannot be stored.")

// classify turns a driver error into one of ours. What it does not know stays internal.
func classify(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	var ours *core.Error
	if errors.As(err, &ours) || errors.Is(err, pgx.ErrNoRows) {
		return err
	}
	if hasState(err, "22021") { // character_not_in_repertoire
		return errText
	}
	if unavailable(err) || ctx.Err() != nil {
		return core.Busy(Redact(err))
	}
	return Redact(err)
}

// unavailable reports whether the database cannot be reached or cannot take work now.
func unavailable(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		switch {
		case strings.HasPrefix(pg.Code, "08"), // connection exception
			strings.HasPrefix(pg.Code, "53"),                           // insufficient resources
			pg.Code == "57P01", pg.Code == "57P02", pg.Code == "57P03", // shutdown, crash, starting up
			pg.Code == "57014", pg.Code == "55P03", // statement or lock timeout
			pg.Code == "40001", pg.Code == "40P01", // serialization failure, deadlock
			pg.Code == "25006": // read-only: a standby after a fail-over
			return true
		}
		return false
	}
	var connect *pgconn.ConnectError
	var network net.Error
	return errors.As(err, &connect) || errors.As(err, &network) || pgconn.SafeToRetry(err) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) ||
		strings.Contains(err.Error(), "conn closed") || strings.Contains(err.Error(), "closed pool")
}

// Redact drops what a server error may repeat of the data, for PostgreSQL puts values into messages
// and details, and keeps why a connection cannot be had.
func Redact(err error) error {
	var pg *pgconn.PgError
	var connect *pgconn.ConnectError
	switch {
	case errors.As(err, &connect):
		reason, _ := explain(connect)
		return errors.New("database: cannot connect to " + reason)
	case errors.As(err, &pg):
		return errors.New("database: " + describe(pg))
	default:
		return err
	}
}

// conditions are the states that an operator can do something about, in PostgreSQL's words.
var conditions = map[string]string{
	"25006": "read-only transaction, as on a standby", "42501": "insufficient privilege", "42P01": "undefined table",
	"42703": "undefined column",
	"53100": "disk full", "53200": "out of memory", "53300": "too many connections", "55P03": "lock timeout",
	"57014": "statement timeout",
	"57P01": "server is shutting down", "57P03": "server is starting up", "58030": "I/O error",
	"XX001": "data corrupted", "XX002": "index corrupted",
}

// describe names a server's error without its message, which may hold values.
func describe(pg *pgconn.PgError) string {
	text := "SQLSTATE " + pg.Code
	if condition := conditions[pg.Code]; condition != "" {
		text += " (" + condition + ")"
	}
	if pg.ConstraintName != "" {
		text += " constraint " + pg.ConstraintName
	}
	return text
}
