// Package schema holds the database migrations and embeds them into the binary.
//
// The files are plain SQL for goose, so that the stock goose CLI applies, shows and undoes them as
// well as `obscura migrate` does. They are append-only once released, reversible in a scratch
// database, and safe beside the previous binary.
package schema

import "embed"

// FS holds the migrations, named 00001_accounts.sql and so on, at its root.
//
//go:embed *.sql
var FS embed.FS

// Version is the newest migration in FS: the oldest database version that this binary accepts.
const Version = 23
