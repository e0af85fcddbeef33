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

// here makes a scenario print its table and its progress.
func here(c *bench.Common) { c.Out, c.Progress = os.Stdout, os.Stderr }

type relayBench struct{ bench.RelayConfig }

func (c *relayBench) Run(ctx context.Context) error {
	here(&c.Common)
	_, err := bench.Relay(ctx, c.RelayConfig)
	return err
}

type bundlesBench struct{ bench.BundlesConfig }

func (c *bundlesBench) Run(ctx context.Context) error {
	here(&c.Common)
	_, err := bench.Bundles(ctx, c.BundlesConfig)
	return err
}

type idleBench struct{ bench.IdleConfig }

func (c *idleBench) Run(ctx context.Context) error {
	here(&c.Common)
	_, err := bench.Idle(ctx, c.IdleConfig)
	return err
}

type backlogBench struct{ bench.BacklogConfig }

func (c *backlogBench) Run(ctx context.Context) error {
	here(&c.Common)
	_, err := bench.Backlog(ctx, c.BacklogConfig)
	return err
}

type connectBench struct{ bench.ConnectConfig }

func (c *connectBench) Run(ctx context.Context) error {
	here(&c.Common)
	_, err := bench.Connect(ctx, c.ConnectConfig)
	return err
}

type loginBench struct{ bench.LoginConfig }

func (c *loginBench) Run(ctx context.Context) error {
	here(&c.Common)
	_, err := bench.Login(ctx, c.LoginConfig)
	return err
}
