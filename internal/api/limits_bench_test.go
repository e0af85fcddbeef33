package api

import (
	"net"
	"testing"

	"github.com/gofiber/fiber/v2"
	"github.com/google/uuid"
	"github.com/valyala/fasthttp"

	"github.com/obscura-relay/obscura/internal/core"
)

// BenchmarkThrottle is what the limits cost each request of the hot path.
func BenchmarkThrottle(b *testing.B) {
	limits, err := NewLimits(nil)
	if err != nil {
		b.Fatal(err)
	}
	s := &server{cfg: Config{Limits: limits}}
	var request fasthttp.RequestCtx
	request.Init(&fasthttp.Request{}, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1}, nil)
	c := fiber.New().AcquireCtx(&request)
	callers := make([]caller, 1000)
	for i := range callers {
		callers[i].Principal = core.Principal{User: uuid.New(), Device: uuid.New()}
	}
	for _, id := range []string{"sendMessages", "createGatewayTicket", "createSession"} {
		b.Run(id, func(b *testing.B) {
			op := &operation{id: id, limits: limits.of[id]}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				_ = s.throttle(c, op, callers[i%len(callers)])
			}
		})
	}
}
