package gateway

import (
	"bufio"
	"strings"
	"testing"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"
)

func TestTheRequestOfASocketKeepsNoSecret(t *testing.T) {
	t.Parallel()
	app, request := fiber.New(), &fasthttp.RequestCtx{}
	err := request.Request.Read(bufio.NewReader(strings.NewReader("GET /v1/gateway?ticket=secret-ticket HTTP/1.1\r\nHost: relay\r\n" +
		"Authorization: Bearer secret-token\r\nCookie: a=secret-cookie; b=secret-2\r\n\r\n")))
	if err != nil {
		t.Fatal(err)
	}
	c := app.AcquireCtx(request)
	defer app.ReleaseCtx(c)
	kept := func() string {
		return request.Request.String() + string(request.Request.Header.RawHeaders()) + request.URI().String() +
			c.OriginalURL() +
			c.Query("ticket") + c.Cookies("a")
	}
	if n := strings.Count(kept(), "secret"); n < 9 {
		t.Errorf("there is little to forget: %d secrets", n)
	}
	forgetSecrets(c)
	if k := kept(); strings.Contains(k, "secret") || !strings.Contains(k, "/v1/gateway") {
		t.Errorf("kept: %q", k)
	}
}
