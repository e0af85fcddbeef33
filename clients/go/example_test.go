package obscura_test

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	obscura "github.com/obscura-relay/obscura/clients/go"
	"github.com/obscura-relay/obscura/gen/obscurapb"
)

// The complete program is in README.md.
func Example() {
	var device *obscura.Session // of relay.Resume, or of user.AddDevice the first time
	var decrypt func(*obscura.Envelope) error
	var refill func(oneTime, kyber int) error

	gateway := device.Gateway()
	for event, err := range gateway.Events(context.Background()) {
		if err != nil {
			fmt.Println("no more mail:", err)
			return
		}
		switch e := event.(type) {
		case *obscura.Envelope:
			if decrypt(e) == nil {
				gateway.Acknowledge(e)
			}
		case *obscura.Gap:
			fmt.Printf("%d messages are missing: %s\n", e.To-e.From+1, e.Reason)
		case *obscura.PreKeyStatus:
			if e.OneTime < e.Threshold || e.Kyber < e.Threshold {
				go func() { _ = refill(100-e.OneTime, 100-e.Kyber) }() // the next status asks again
			}
		case *obscura.Disconnected:
			fmt.Println("offline:", e.Err, "- trying again in", e.After)
		}
	}
}

func ExampleSession_Send() {
	var alice *obscura.Session
	var bobsPhone uuid.UUID // of a bundle
	var ciphertext []byte

	batch := obscura.NewBatch(obscura.Submission{DeviceID: bobsPhone, Message: ciphertext})
	// Store the batch here if it must survive a crash, and send the same one after the restart.
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	failed, err := alice.Send(ctx, batch)
	if err != nil {
		fmt.Println("not known whether it is stored; send the same batch later:", err)
		return
	}
	for _, f := range failed {
		if f.Code == obscurapb.ErrorCode_ERROR_CODE_INVALID_DEVICE {
			fmt.Println("this device is gone; fetch Bob's bundles")
		}
	}
}
