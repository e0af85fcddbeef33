package main

import (
	"errors"
	"os"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/obscura-relay/obscura/gen/obscurapb"
)

// envelope prints one submission with a fresh id, for one device. The text goes as it is, where a
// client puts ciphertext. The relay cannot tell the difference.
func envelope(args []string) error {
	if len(args) != 2 {
		return errors.New("usage: try envelope DEVICE_ID TEXT")
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
