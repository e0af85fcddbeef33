// Command listen opens the gateway of a device, prints what arrives, and acknowledges it. It is for trying the relay by hand.
//
//	go run ./tools/listen [-once] http://127.0.0.1:3000 DEVICE_TOKEN
//
// With -once it ends when everything that waited has arrived, else when it is interrupted, displaced, or its token has expired.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"

	obscura "github.com/obscura-relay/obscura/clients/go"
)

func main() {
	once := flag.Bool("once", false, "end when everything that waited has arrived")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, flag.Args(), *once)
	stop()
	if err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "listen:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, once bool) error {
	if len(args) != 2 {
		return errors.New("usage: listen [-once] URL DEVICE_TOKEN")
	}
	relay, err := obscura.New(args[0], obscura.Options{})
	if err != nil {
		return err
	}
	session, err := relay.Resume(obscura.Tokens{Token: args[1]})
	if err != nil {
		return err
	}
	for event, err := range session.Gateway().Events(ctx) {
		if err != nil {
			return err
		}
		switch e := event.(type) {
		case *obscura.PreKeyStatus:
			fmt.Printf("the relay holds %d EC and %d Kyber one-time keys; refill below %d\n", e.OneTime, e.Kyber, e.Threshold)
		case *obscura.Envelope:
			fmt.Printf("envelope %d from %s, device number %d: %q\n", e.Sequence, e.SenderID, e.SenderDeviceNumber, e.Message)
			session.Gateway().Acknowledge(e) // a client does so after it has decrypted it and stored the result
		case *obscura.Gap:
			fmt.Printf("envelopes %d to %d were dropped: %s\n", e.From, e.To, e.Reason)
		case *obscura.Drained:
			fmt.Printf("that was all that waited, up to envelope %d\n", e.Sequence)
			if once {
				return nil
			}
		case *obscura.Disconnected:
			fmt.Printf("disconnected: %v; trying again in %s\n", e.Err, e.After)
		}
	}
	return nil
}
