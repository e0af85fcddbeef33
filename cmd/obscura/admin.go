package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/obscura-relay/obscura/internal/app"
)

type adminCmd struct {
	Invite inviteCmd      `cmd:"" help:"Invitations, for a relay with --registration=invite."`
	Config adminConfigCmd `cmd:"" help:"The configuration of serve."`
	Doctor doctorCmd      `cmd:"" help:"Look at all that the relay needs, and say what to do. Changes nothing."`
}

type adminConfigCmd struct {
	Check configCheckCmd `cmd:"" help:"Say whether serve would take this configuration, and name what is set. Takes the flags and variables of serve."`
}

type configCheckCmd struct {
	app.Config
	JSON bool `name:"json" env:"-" help:"Print JSON."`
}

// Run prints names alone: values may be secrets. What is wrong was said by the parser.
func (c *configCheckCmd) Run(parsed *kong.Context) error {
	given := map[*kong.Flag]bool{}
	for _, part := range parsed.Path {
		given[part.Flag] = true
	}
	set := []string{}
	for _, flag := range parsed.Flags() {
		inEnvironment := slices.ContainsFunc(flag.Envs, func(name string) bool { return os.Getenv(name) != "" })
		if (given[flag] || inEnvironment) && flag.Name != "json" {
			set = append(set, "--"+flag.Name)
		}
	}
	slices.Sort(set)
	if c.JSON {
		return json.NewEncoder(os.Stdout).Encode(map[string][]string{"set": set})
	}
	_, err := fmt.Println(strings.Join(append([]string{"the configuration is valid; set:"}, set...), " "))
	return err
}

type doctorCmd struct {
	app.Config
	URL  string `name:"url" env:"-" placeholder:"URL" help:"The relay as users reach it, such as https://relay.example.org. Without it the way from outside is not looked at."`
	JSON bool   `name:"json" env:"-" help:"Print JSON."`
}

func (c *doctorCmd) Run(ctx context.Context) error {
	return app.Doctor(ctx, c.Config, c.URL, c.JSON, os.Stdout)
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
