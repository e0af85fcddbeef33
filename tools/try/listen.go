package main

import (
	"context"
	"errors"
	"flag"
	"fmt"

	obscura "github.com/obscura-relay/obscura/clients/go"
)

// listen opens the gateway of a device, prints what arrives, and acknowledges it. With -once it
// ends when everything that waited has arrived, else when it is interrupted, displaced, or its
// token has expired.
func listen(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("listen", flag.ContinueOnError)
	once := flags.Bool("once", false, "end when everything that waited has arrived")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 2 {
		return errors.New("usage: try listen [-once] URL TOKEN")
	}
	relay, err := obscura.New(flags.Arg(0), obscura.Options{})
	if err != nil {
		return err
	}
	session, err := relay.Resume(obscura.Tokens{Token: flags.Arg(1)})
	if err != nil {
		return err
	}
	for event, err := range session.Gateway().Events(ctx) {
		if err != nil {
			return err
		}
		switch e := event.(type) {
		case *obscura.PreKeyStatus:
			fmt.Printf("the relay holds %d EC and %d Kyber one-time keys; refill below %d\n", e.OneTime, e.Kyber,
				e.Threshold)
		case *obscura.Envelope:
			fmt.Printf("envelope %d from %s, device number %d: %q\n", e.Sequence, e.SenderID, e.SenderDeviceNumber,
				e.Message)
			session.Gateway().Acknowledge(e) // a client does so after it has decrypted it and stored the result
		case *obscura.Gap:
			fmt.Printf("envelopes %d to %d were dropped: %s\n", e.From, e.To, e.Reason)
		case *obscura.Drained:
			fmt.Printf("that was all that waited, up to envelope %d\n", e.Sequence)
			if *once {
				return nil
			}
		case *obscura.Disconnected:
			fmt.Printf("disconnected: %v; trying again in %s\n", e.Err, e.After)
		}
	}
	return nil
}
