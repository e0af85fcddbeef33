// Command try is for trying a relay by hand: it makes what curl cannot, and reads what curl cannot.
//
//	go run ./tools/try keys                         the body of POST /v1/devices
//	go run ./tools/try envelope DEVICE_ID TEXT      the body of POST /v1/messages
//	go run ./tools/try listen [-once] URL TOKEN     prints what arrives at a device
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "try:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) > 0 {
		switch args[0] {
		case "keys":
			return keys(args[1:])
		case "envelope":
			return envelope(args[1:])
		case "listen":
			return listen(ctx, args[1:])
		}
	}
	return errors.New("usage: try keys | try envelope DEVICE_ID TEXT | try listen [-once] URL TOKEN")
}
