// Command front stands before a relay and holds everything that it answers against the contract,
// for tests that are not in Go:
//
//	go run ./tools/front http://127.0.0.1:3000
//
// It prints its own URL, and then a line for every answer that breaks the contract. It runs until
// SIGTERM or Ctrl-C, and exits with status 1 if there was such a line, or nothing to look at.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/obscura-relay/obscura/internal/kit/contract"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: front URL")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "front:", err)
		os.Exit(1)
	}
}

// counted counts the answers that pass.
type counted struct {
	http.RoundTripper
	n atomic.Int64
}

// RoundTrip implements http.RoundTripper.
func (c *counted) RoundTrip(request *http.Request) (*http.Response, error) {
	c.n.Add(1)
	return c.RoundTripper.RoundTrip(request)
}

func run(ctx context.Context, relay string) error {
	api, err := url.Parse(relay)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	answers := &counted{RoundTripper: &http.Transport{MaxIdleConnsPerHost: 64}}
	var broken atomic.Int64
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second,
		Handler: contract.Front(api, &contract.Transport{Next: answers,
			Report: func(sentence string) {
				broken.Add(1)
				fmt.Fprintln(os.Stderr, "front:", sentence)
			}})}
	go func() {
		<-ctx.Done()
		_ = server.Close()
	}()
	fmt.Println("http://" + listener.Addr().String())
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	switch {
	case broken.Load() > 0:
		return fmt.Errorf("%d times the contract was broken, in %d answers", broken.Load(), answers.n.Load())
	case answers.n.Load() == 0:
		return errors.New("nothing came through here")
	}
	fmt.Fprintf(os.Stderr, "front: %d answers keep the contract\n", answers.n.Load())
	return nil
}
