// Command envelope prints the body of POST /v1/messages: one submission with a fresh id, for one device. It is for trying the relay by
// hand: the text goes as it is, where a client puts ciphertext. The relay cannot tell the difference.
//
//	go run ./tools/envelope DEVICE_ID TEXT >body
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/obscura-relay/obscura/gen/obscurapb"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "envelope:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 2 {
		return errors.New("usage: envelope DEVICE_ID TEXT")
	}
	device, err := uuid.Parse(args[0])
	if err != nil {
		return errors.New("the device id is not a UUID")
	}
	id := uuid.New()
	body, err := proto.Marshal(&obscurapb.SendMessageRequest{Messages: []*obscurapb.Submission{
		{SubmissionId: id[:], DeviceId: device[:], Message: []byte(args[1])}}})
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(body)
	return err
}
