package main

import (
	"context"
	"os"

	"github.com/obscura-relay/obscura/internal/app"
)

type adminCmd struct {
	Invite inviteCmd `cmd:"" help:"Invitations, for a relay with --registration=invite."`
}

type inviteCmd struct {
	Create inviteCreateCmd `cmd:"" help:"Make an invitation and print it. Nothing shows it again."`
	List   inviteListCmd   `cmd:"" help:"List the invitations that somebody can still register with."`
	Revoke inviteRevokeCmd `cmd:"" help:"Delete an invitation."`
}

type inviteCreateCmd struct {
	app.Database
	Uses    int32        `default:"1" env:"-" placeholder:"N" help:"How many registrations it is good for."`
	Expires app.Lifetime `default:"7d" env:"-" placeholder:"TIME" help:"How long it is good for: 7d, 12h, or never."`
	JSON    bool         `name:"json" env:"-" help:"Print JSON."`
}

func (c *inviteCreateCmd) Run(ctx context.Context) error {
	return app.CreateInvitation(ctx, c.Database, c.Uses, c.Expires, c.JSON, os.Stdout, os.Stderr)
}

type inviteListCmd struct {
	app.Database
	JSON bool `name:"json" env:"-" help:"Print JSON."`
}

func (c *inviteListCmd) Run(ctx context.Context) error {
	return app.ListInvitations(ctx, c.Database, c.JSON, os.Stdout, os.Stderr)
}

type inviteRevokeCmd struct {
	app.Database
	Hash string `arg:"" help:"The beginning of its hash, as the list shows it: at least 4 digits."`
	JSON bool   `name:"json" env:"-" help:"Print JSON."`
}

func (c *inviteRevokeCmd) Run(ctx context.Context) error {
	return app.RevokeInvitation(ctx, c.Database, c.Hash, c.JSON, os.Stdout, os.Stderr)
}
