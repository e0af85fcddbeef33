package main

import (
	"context"
	"os"

	"github.com/obscura-relay/obscura/internal/kit/bench"
)

// BenchCmd is the scenarios of `obscura bench`.
type BenchCmd struct {
	Relay   relayBench   `cmd:"" help:"Messages from senders to connected devices."`
	Bundles bundlesBench `cmd:"" help:"Fetches of pre-key bundles."`
	Idle    idleBench    `cmd:"" help:"Connected devices that do nothing: memory and CPU of a socket."`
	Backlog backlogBench `cmd:"" help:"Devices that come back to full mailboxes."`
	Connect connectBench `cmd:"" help:"Devices that fetch a ticket, open the gateway and close it."`
	Login   loginBench   `cmd:"" help:"A storm of log-ins."`
}

// drive runs a scenario, which prints its table and its progress.
func drive[C, R any](ctx context.Context, scenario func(context.Context, C) (R, error), cfg *C,
	common *bench.Common) error {
	common.Out, common.Progress = os.Stdout, os.Stderr
	_, err := scenario(ctx, *cfg)
	return err
}

type relayBench struct{ bench.RelayConfig }

func (c *relayBench) Run(ctx context.Context) error {
	if c.Sealed {
		return drive(ctx, bench.Sealed, &c.RelayConfig, &c.Common)
	}
	if c.Shared {
		return drive(ctx, bench.Shared, &c.RelayConfig, &c.Common)
	}
	return drive(ctx, bench.Relay, &c.RelayConfig, &c.Common)
}

type bundlesBench struct{ bench.BundlesConfig }

func (c *bundlesBench) Run(ctx context.Context) error {
	return drive(ctx, bench.Bundles, &c.BundlesConfig, &c.Common)
}

type idleBench struct{ bench.IdleConfig }

func (c *idleBench) Run(ctx context.Context) error {
	return drive(ctx, bench.Idle, &c.IdleConfig, &c.Common)
}

type backlogBench struct{ bench.BacklogConfig }

func (c *backlogBench) Run(ctx context.Context) error {
	return drive(ctx, bench.Backlog, &c.BacklogConfig, &c.Common)
}

type connectBench struct{ bench.ConnectConfig }

func (c *connectBench) Run(ctx context.Context) error {
	return drive(ctx, bench.Connect, &c.ConnectConfig, &c.Common)
}

type loginBench struct{ bench.LoginConfig }

func (c *loginBench) Run(ctx context.Context) error {
	return drive(ctx, bench.Login, &c.LoginConfig, &c.Common)
}
