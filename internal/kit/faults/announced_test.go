package faults_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/obscura-relay/obscura/gen/obscurapb"
)

// announced are requests that announce a body and never send it. Each cost 2 MiB once.
var announced = map[string]string{
	"an unknown path":   "POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 2097152\r\n\r\n",
	"no token":          "POST /v1/messages HTTP/1.1\r\nHost: h\r\nContent-Length: 2097152\r\n\r\n",
	"a made up token":   "POST /v1/messages HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer x.y.z\r\nContent-Length: 2097152\r\n\r\n",
	"a large log-in":    "POST /v1/sessions HTTP/1.1\r\nHost: h\r\nContent-Length: 2097152\r\n\r\n",
	"another method":    "PUT /v1/messages HTTP/1.1\r\nHost: h\r\nContent-Length: 2097152\r\n\r\n",
	"a body for nobody": "GET /openapi.yaml HTTP/1.1\r\nHost: h\r\nContent-Length: 2097152\r\n\r\n",
	"a large chunk":     "POST /v1/messages HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1ffff0\r\n",
	"an old client":     "POST /x HTTP/1.0\r\nContent-Length: 2097152\r\n\r\n",
}

// TestAnnouncedBodiesTakeLittleMemoryAndTime opens five thousand connections that announce a body, keeps as
// many open for as long as it measures, and sends messages meanwhile.
func TestAnnouncedBodiesTakeLittleMemoryAndTime(t *testing.T) {
	const connections, most, slowest, measured = 5000, 64 << 10, 50 * time.Millisecond, 300
	w := newWorld(t, false)
	n := w.nodes[0]
	client := &http.Client{Transport: &http.Transport{}, Timeout: patience}
	pair := newDevices(t, w.nodes[1].url(), client, 2) // on the other node: hashing a password takes memory
	send := func() (p99 time.Duration) {               // of as many messages as ten seconds allow
		var took []time.Duration
		for end := time.Now().Add(10 * time.Second); len(took) < measured && time.Now().Before(end); {
			id := uuid.New()
			body, err := proto.Marshal(&obscurapb.SendMessageRequest{Messages: []*obscurapb.Submission{{SubmissionId: id[:], DeviceId: pair[1].id[:], Message: make([]byte, 1000)}}})
			if err != nil {
				t.Fatal(err)
			}
			begun := time.Now()
			if got := pair[0].call(t.Context(), http.MethodPost, n.url()+"/v1/messages", "application/x-protobuf", body, nil); got.status != http.StatusOK {
				t.Fatalf("status %d", got.status)
			}
			took = append(took, time.Since(begun))
		}
		slices.Sort(took)
		return took[len(took)*99/100]
	}
	send() // connections to the database, and whatever else is made once
	quiet := send()

	var heads []string
	for _, head := range announced {
		heads = append(heads, head)
	}
	before := n.memory(t, "VmRSS")
	n.resetPeak(t)
	ctx, stop := context.WithCancel(t.Context())
	var all, first sync.WaitGroup
	gate := make(chan struct{}, 64) // dials at once
	first.Add(connections)
	for i := range connections {
		all.Go(func() {
			once := sync.OnceFunc(first.Done)
			defer once()
			for ctx.Err() == nil {
				gate <- struct{}{}
				conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", strings.TrimPrefix(n.url(), "http://"))
				if err == nil {
					_, _ = io.WriteString(conn, heads[i%len(heads)])
				}
				<-gate
				once()
				if err != nil {
					pause(ctx, 100*time.Millisecond)
					continue
				}
				end := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
				_, _ = io.Copy(io.Discard, conn) // the answer, and then it stays until the relay closes it ...
				pause(ctx, 4*time.Second)        // ... for good
				end()
				_ = conn.Close()
			}
		})
	}
	first.Wait()
	p99 := send()
	rise := n.memory(t, "VmHWM") - before
	stop()
	all.Wait()
	t.Logf("%d connections: from %d KiB by %d KiB; p99 of a send %s, before %s", connections, before, rise, p99, quiet)
	if rise > most {
		t.Errorf("they take %d KiB", rise)
	}
	if p99 > max(slowest, 5*quiet) { // a machine that is busy otherwise is slow before, too
		t.Errorf("a send takes %s", p99)
	}
}
