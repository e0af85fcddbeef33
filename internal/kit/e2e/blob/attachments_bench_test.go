package blob_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

// BenchmarkDownload compares a download with what Fiber does for a plain file: without a token, a
// row or a limit, from the same folder to the same client.
func BenchmarkDownload(b *testing.B) {
	relay := relaytest.Start(b)
	device := relay.Register(b).NewDevice(b)
	files := fiber.New(fiber.Config{DisableStartupMessage: true})
	files.Get("/sent/:file", func(c *fiber.Ctx) error {
		return c.SendFile(filepath.Join(relay.Blobs, "attachments", c.Params("file")))
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- files.Listener(listener) }()
	b.Cleanup(func() {
		if err := files.ShutdownWithContext(context.Background()); err != nil {
			b.Error(err)
		}
		if err := <-ended; err != nil {
			b.Error(err)
		}
	})
	plain := "http://" + listener.Addr().String()
	for _, size := range []int{1 << 20, 16 << 20} {
		id := e2e.Attach(b, device, e2e.Random(b, size)).ID.String()
		b.Run(fmt.Sprintf("%dMiB", size>>20), func(b *testing.B) {
			transport := &http.Transport{ReadBufferSize: 64 << 10, MaxIdleConnsPerHost: downloads}
			defer transport.CloseIdleConnections()
			atOnce := func(url string) time.Duration {
				begun := time.Now()
				var wg sync.WaitGroup
				for range downloads {
					wg.Go(func() {
						buffer := make([]byte, 256<<10)
						for range 4 {
							if err := fetch(b.Context(), transport, url, device.Token, buffer,
								int64(size)); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
				return time.Since(begun)
			}
			var file, ours time.Duration
			for b.Loop() { // in turns, since others use this machine too
				file += atOnce(plain + "/sent/" + id)
				ours += atOnce(relay.API + "/v1/attachments/" + id)
			}
			bytes := float64(size) * downloads * 4 * float64(b.N) / 1e6
			b.ReportMetric(bytes/file.Seconds(), "file-MB/s")
			b.ReportMetric(bytes/ours.Seconds(), "relay-MB/s")
			b.ReportMetric(100*file.Seconds()/ours.Seconds(), "percent")
		})
	}
}

// downloads is how many there are at once.
const downloads = 8

// fetch downloads and counts.
func fetch(ctx context.Context, transport http.RoundTripper, url, token string, buffer []byte, size int64) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := transport.RoundTrip(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{response.Body}, buffer)
	if err == nil && n != size {
		err = fmt.Errorf("%d bytes", n)
	}
	return err
}
