// Announcer keeps connections to a relay open that announce a body and never send it, until its
// standard input ends: announcer HOST:PORT CONNECTIONS. It writes a byte when every connection has
// been opened once. It is a program of its own because attackers have processors of their own: the
// test starts it as one that everybody else goes before.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"time"
)

// heads are the beginnings of its requests. Each cost 2 MiB once.
var heads = []string{
	// an unknown path
	"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 2097152\r\n\r\n",
	// no token
	"POST /v1/messages HTTP/1.1\r\nHost: h\r\nContent-Length: 2097152\r\n\r\n",
	// a made up token
	"POST /v1/messages HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer x.y.z\r\nContent-Length: 2097152\r\n\r\n",
	// a large log-in
	"POST /v1/sessions HTTP/1.1\r\nHost: h\r\nContent-Length: 2097152\r\n\r\n",
	// another method
	"PUT /v1/messages HTTP/1.1\r\nHost: h\r\nContent-Length: 2097152\r\n\r\n",
	// a body for nobody
	"GET /openapi.yaml HTTP/1.1\r\nHost: h\r\nContent-Length: 2097152\r\n\r\n",
	// a large chunk
	"POST /v1/messages HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1ffff0\r\n",
	// an old client
	"POST /x HTTP/1.0\r\nContent-Length: 2097152\r\n\r\n",
}

const (
	dialsAtOnce = 64
	afterClose  = 4 * time.Second // how long a connection stays that the relay has closed
	afterError  = 100 * time.Millisecond
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "announcer:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 2 {
		return errors.New("usage: announcer HOST:PORT CONNECTIONS")
	}
	connections, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	var all, first sync.WaitGroup
	gate := make(chan struct{}, dialsAtOnce)
	first.Add(connections)
	for i := range connections {
		all.Go(func() {
			opened := sync.OnceFunc(first.Done)
			for ctx.Err() == nil {
				announce(ctx, args[0], heads[i%len(heads)], gate, opened)
			}
		})
	}
	first.Wait()
	_, err = os.Stdout.Write([]byte{'.'})
	if err == nil {
		_, err = io.Copy(io.Discard, os.Stdin)
	}
	stop()
	all.Wait()
	return err
}

// announce opens one connection and keeps it for as long as the relay does, and a while longer.
func announce(ctx context.Context, relay, head string, gate chan struct{}, opened func()) {
	gate <- struct{}{}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", relay)
	if err == nil {
		_, _ = io.WriteString(conn, head)
	}
	<-gate
	if err != nil {
		pause(ctx, afterError)
		return
	}
	defer conn.Close()
	opened()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	_, _ = io.Copy(io.Discard, conn) // the answer, and whatever comes until the relay closes
	pause(ctx, afterClose)
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
