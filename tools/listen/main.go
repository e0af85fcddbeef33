// Command listen opens the gateway of a device, prints what arrives, and acknowledges it. It is for trying the relay by hand.
//
//	go run ./tools/listen [-once] http://127.0.0.1:3000 DEVICE_TOKEN
//
// With -once it ends when everything that waited has arrived, else when it is interrupted or the relay closes the socket.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"strings"

	"github.com/coder/websocket"
	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/obscura-relay/obscura/gen/obscurapb"
)

// readLimit is more than the largest frame that the relay sends: one envelope of 256 KiB.
const readLimit = 1 << 20

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
	url := "ws" + strings.TrimPrefix(strings.TrimSuffix(args[0], "/"), "http") + "/v1/gateway"
	conn, _, err := websocket.Dial(ctx, url, &websocket.DialOptions{ //nolint:bodyclose // the library closes it
		HTTPHeader: http.Header{"Authorization": {"Bearer " + args[1]}}})
	if err != nil {
		return err
	}
	defer func() { _ = conn.CloseNow() }()
	conn.SetReadLimit(readLimit)
	for {
		_, data, err := conn.Read(ctx)
		if err != nil {
			return err
		}
		var frame obscurapb.WebSocketFrame
		if err := proto.Unmarshal(data, &frame); err != nil {
			return err
		}
		show(&frame)
		if err := acknowledge(ctx, conn, frame.GetEnvelopeBatch().GetEnvelopes()); err != nil {
			return err
		}
		if once && frame.GetDrained() != nil {
			return conn.Close(websocket.StatusNormalClosure, "")
		}
	}
}

func show(frame *obscurapb.WebSocketFrame) {
	switch p := frame.GetPayload().(type) {
	case *obscurapb.WebSocketFrame_PreKeyStatus:
		fmt.Printf("the relay holds %d EC and %d Kyber one-time keys; refill below %d\n", p.PreKeyStatus.GetOneTimePreKeyCount(),
			p.PreKeyStatus.GetKyberPreKeyCount(), p.PreKeyStatus.GetMinThreshold())
	case *obscurapb.WebSocketFrame_EnvelopeBatch:
		for _, e := range p.EnvelopeBatch.GetEnvelopes() {
			sender, _ := uuid.FromBytes(e.GetSenderId())
			fmt.Printf("envelope %d from %s, device number %d: %q\n", e.GetSequence(), sender, e.GetSenderDeviceNumber(), e.GetMessage())
		}
	case *obscurapb.WebSocketFrame_Gap:
		fmt.Printf("envelopes %d to %d were dropped: %s\n", p.Gap.GetFrom(), p.Gap.GetTo(), p.Gap.GetReason())
	case *obscurapb.WebSocketFrame_Drained:
		fmt.Printf("that was all that waited, up to envelope %d\n", p.Drained.GetSequence())
	}
}

// acknowledge tells the relay to forget envelopes. A client does so after it has decrypted and stored them.
func acknowledge(ctx context.Context, conn *websocket.Conn, envelopes []*obscurapb.Envelope) error {
	if len(envelopes) == 0 {
		return nil
	}
	ack := &obscurapb.AckMessage{}
	for _, e := range envelopes {
		ack.MessageIds = append(ack.MessageIds, e.GetId())
	}
	data, err := proto.Marshal(&obscurapb.WebSocketFrame{Payload: &obscurapb.WebSocketFrame_Ack{Ack: ack}})
	if err != nil {
		return err
	}
	return conn.Write(ctx, websocket.MessageBinary, data)
}
