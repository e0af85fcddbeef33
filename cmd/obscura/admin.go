package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/obscura-relay/obscura/internal/admin"
	"github.com/obscura-relay/obscura/internal/app"
)

type adminCmd struct {
	Users struct {
		List                 operation[admin.ListUsers]            `cmd:"" help:"List all users."`
		Show                 operation[admin.ShowUser]             `cmd:"" help:"Show a user with devices and sessions."`
		Disable              operation[admin.DisableUser]          `cmd:"" help:"Log a user out everywhere and take no further log-in. Mail comes in as before."`
		Enable               operation[admin.EnableUser]           `cmd:"" help:"Let a user log in again."`
		Delete               operation[admin.DeleteUser]           `cmd:"" help:"Delete an account with everything that is kept for it, at once and for good."`
		ResetPassword        operation[admin.ResetPassword]        `cmd:"" help:"Give a user another password, print it, and log the user out everywhere. Nothing shows it again."`
		ForgetWrongPasswords operation[admin.ForgetWrongPasswords] `cmd:"" help:"Forget the wrong passwords that were given for a user's name, so that nobody waits."`
	} `cmd:"" help:"Users."`
	Devices struct {
		List   operation[admin.ListDevices]  `cmd:"" help:"List the devices of a user."`
		Remove operation[admin.RemoveDevice] `cmd:"" help:"Remove a device with its keys, mail and backup."`
	} `cmd:"" help:"Devices of a user."`
	Sessions struct {
		End operation[admin.EndSessions] `cmd:"" help:"Log a user out everywhere, or all users: tokens and sockets stop working within a second."`
	} `cmd:"" help:"Sessions of users."`
	Mailbox struct {
		Show operation[admin.ShowMailbox] `cmd:"" help:"Show for each device of a user how much mail waits, since when, and what was dropped."`
	} `cmd:"" help:"Mailboxes of a user."`
	Invite struct {
		Create operation[admin.CreateInvitation] `cmd:"" help:"Make an invitation and print it. Nothing shows it again."`
		List   operation[admin.ListInvitations]  `cmd:"" help:"List the invitations that somebody can still register with."`
		Revoke operation[admin.RevokeInvitation] `cmd:"" help:"Delete an invitation."`
	} `cmd:"" help:"Invitations, for a relay with --registration=invite."`
	Keys struct {
		Rotate struct {
			Tokens       operation[admin.RotateTokens]       `cmd:"" help:"Replace the keys that sign access tokens. Within a second the tokens that there are stop working; clients refresh and nobody is logged out."`
			Certificates operation[admin.RotateCertificates] `cmd:"" help:"The same as obscura certificates rotate."`
			TrustRoot    operation[admin.RotateTrustRoot]    `cmd:"" help:"Replace the trust root of sender certificates after a theft, and the server key with it. Every client has to be told the new one."`
		} `cmd:"" help:"Replace keys."`
	} `cmd:"" help:"Keys that sign access tokens and sender certificates."`
	Trash struct {
		List  operation[admin.ListTrash]  `cmd:"" help:"List the blobs that are to be deleted from the store."`
		Empty operation[admin.EmptyTrash] `cmd:"" help:"Have them all tried now. Running relays delete them."`
	} `cmd:"" help:"Blobs that are to be deleted."`
	Restored operation[admin.Restored] `cmd:"" help:"Tell a database that it was restored from a backup, before a relay runs on it: skip a million numbers in each mailbox and list of devices, and drop one-time keys."`
	Purge    operation[admin.Purge]    `cmd:"" help:"Delete the accounts that nobody has used for a time, or list them. Disabled ones stay, and those with a session."`
	Stats    operation[admin.Stats]    `cmd:"" help:"Count what the database holds."`
	Config   adminConfigCmd            `cmd:"" help:"The configuration of serve."`
	Doctor   doctorCmd                 `cmd:"" help:"Look at all that the relay needs, and say what to do. Changes nothing."`
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
	if len(set) == 0 {
		set = []string{"nothing"}
	}
	_, err := fmt.Println("the configuration is valid; set:", strings.Join(set, " "))
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

// operation is a command of the operator as it stands on the command line.
type operation[C admin.Command] struct {
	app.Database
	Command C    `embed:""`
	JSON    bool `name:"json" env:"-" help:"Print JSON."`
}

// Run runs it.
func (o *operation[C]) Run(ctx context.Context) error {
	return app.Administer(ctx, o.Database, o.Command, o.JSON, os.Stdout, os.Stderr)
}
