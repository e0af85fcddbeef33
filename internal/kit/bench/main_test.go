package bench

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"testing"

	"github.com/alecthomas/kong"
	"go.uber.org/goleak"

	"github.com/obscura-relay/obscura/internal/app"
	"github.com/obscura-relay/obscura/internal/kit/testdb"
)

// TestMain also stands for the obscura binary: a benchmark that starts a relay of its own runs
// `PROGRAM serve`, and the program is this one.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "serve" {
		if err := serve(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	testdb.Main(m,
		// fasthttp keeps one clock a process, a stopped worker pool's cleaner until its next round,
		// and a client's cleaner of connections for the minute that one may be idle.
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*HostClient).connsCleaner"))
}

func serve() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	var c struct {
		Serve struct{ app.Config } `cmd:""`
	}
	parser, err := kong.New(&c, kong.DefaultEnvars("OBSCURA"))
	if err != nil {
		return err
	}
	if _, err := parser.Parse(os.Args[1:]); err != nil {
		return err
	}
	return app.Run(ctx, c.Serve.Config, os.Stderr, func(app.Addresses) {})
}
