// Command obscura is the relay, and what its operators need beside it. It only parses the command
// line: the work is done elsewhere. An error is one line on standard error and exit status 1.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"github.com/obscura-relay/obscura/internal/app"
)

type cli struct {
	Serve        serveCmd        `cmd:"" help:"Run the relay."`
	Migrate      migrateCmd      `cmd:"" help:"Bring the database schema up to date and exit."`
	Certificates certificatesCmd `cmd:"" help:"The keys that sign sender certificates."`
	Admin        adminCmd        `cmd:"" help:"What the operator decides, in the database. Opens no port."`
	Cluster      clusterCmd      `cmd:"" help:"A database on several servers, by Citus. For trials: docs/scale.md says what is missing."`
	Bench        BenchCmd        `cmd:"" help:"Load a relay and say what it did."`
	Conform      conformCmd      `cmd:"" help:"Hold any relay against the contract, from outside."`
	Healthcheck  healthcheckCmd  `cmd:"" help:"Ask the relay on this machine whether it is ready; the exit status says it."`
	Version      versionCmd      `cmd:"" help:"Print the version and exit."`

	PrintVersion kong.VersionFlag `name:"version" env:"-" help:"Print the version and exit."`
}

type serveCmd struct {
	app.Config
}

func (c *serveCmd) Run(ctx context.Context) error {
	// Without this the program ends when it writes to a log whose reader has gone.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	log := app.NewLogFile(c.Config, os.Stderr)
	err := app.Run(ctx, c.Config, log, func(app.Addresses) {})
	_ = log.Close() // the stop of a relay whose log nobody reads is no failure: a supervisor would start it again
	return err
}

type migrateCmd struct {
	app.Database
}

func (c *migrateCmd) Run(ctx context.Context) error { return app.Migrate(ctx, c.Database, os.Stderr) }

type versionCmd struct{}

// Run prints the version and what it was built from.
func (versionCmd) Run() error {
	_, err := fmt.Println("obscura", app.Build())
	return err
}

func main() {
	ends := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // nohup has it ignored; else a terminal that closes is an end as well
		ends = append(ends, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(context.Background(), ends...)
	err := run(ctx)
	stop()
	if err != nil {
		printed := make(chan struct{})
		go func() { fmt.Fprintln(os.Stderr, "obscura:", err); close(printed) }()
		select {
		case <-printed:
		case <-time.After(time.Second): // nobody reads what was said before either
		}
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	var c cli
	parser, err := kong.New(&c,
		kong.Name("obscura"),
		kong.Description("A zero-knowledge relay for the Signal Protocol."),
		kong.Vars{"version": "obscura " + app.Build()},
		kong.DefaultEnvars("OBSCURA"),
		kong.ValueFormatter(helpWithDefault),
		kong.BindTo(ctx, (*context.Context)(nil)))
	if err != nil {
		return err
	}
	args := os.Args[1:]
	if len(args) == 0 {
		args = []string{"--help"}
	}
	parsed, err := parser.Parse(args) // --help and --version end here
	if err != nil {
		return sentence(err, parser.Model.Node)
	}
	if err := emptyFlag(parsed); err != nil {
		return err
	}
	if err := app.UnknownVariable(os.Environ(), variables(parser.Model.Node)); err != nil {
		return err
	}
	if err := parsed.Run(); err != nil {
		return errors.New(withVariables(err.Error(), parsed.Selected()))
	}
	return nil
}

// helpWithDefault adds the default, which kong shows only in place of a placeholder.
func helpWithDefault(value *kong.Value) string {
	text := kong.DefaultHelpValueFormatter(value)
	if value.HasDefault && value.Default != "" && !value.IsBool() {
		text += " Default: " + value.Default + "."
	}
	return text
}

// variables lists the environment variables that any command reads.
func variables(node *kong.Node) map[string]bool {
	known := map[string]bool{}
	for _, flag := range node.Flags {
		for _, name := range flag.Envs {
			known[name] = true
		}
	}
	for _, child := range node.Children {
		for name := range variables(child) {
			known[name] = true
		}
	}
	return known
}
