package api

import (
	"bufio"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/obscura-relay/obscura/internal/core"
)

func TestEveryKindHasItsStatus(t *testing.T) {
	t.Parallel()
	want := map[core.Kind]int{core.Invalid: 400, core.Unauthorized: 401, core.Forbidden: 403, core.NotFound: 404,
		core.Conflict: 409, core.Unmet: 412,
		core.TooLarge: 413, core.Limited: 429, core.Unavailable: 503}
	for kind := core.Invalid; kind <= core.Unavailable; kind++ {
		err := &core.Error{Kind: kind, Code: "some_code", Sentence: "Some sentence.",
			RetryAfter: 1500 * time.Millisecond, Cause: errors.New("secret cause")}
		for _, e := range []error{err, fmt.Errorf("secret context: %w", err), errors.Join(errors.New("secret"), err)} {
			status, body, retry := answerTo(e)
			if status != want[kind] || body.Code != "some_code" || body.Error != "Some sentence." ||
				retry != err.RetryAfter {
				t.Errorf("kind %d: %d %v %v", kind, status, body, retry)
			}
		}
	}
	if len(want) != len(statuses) {
		t.Errorf("%d kinds have a status, %d are tested", len(statuses), len(want))
	}
	if status, _, _ := answerTo(errMedia); status != 415 {
		t.Errorf("another media type is %d", status)
	}
}

// A kind that somebody adds to core and forgets here must not answer 200.
func TestAKindWithoutAStatusIsAnInternalError(t *testing.T) {
	t.Parallel()
	for kind := range 256 {
		err := &core.Error{Kind: core.Kind(kind), Code: "some_code", Sentence: "secret", RetryAfter: time.Second}
		if _, known := statuses[err.Kind]; known {
			continue
		}
		status, header, body := get(t, withServer(t, func(*fiber.Ctx) error { return err }, io.Discard))
		if status != 500 || body != `{"code":"internal","error":"The relay failed."}` ||
			header.Get("Retry-After") != "" {
			t.Errorf("kind %d: %d %s", kind, status, body)
		}
	}
}

// Every constant of the type Kind in core has a status.
func TestEveryKindOfCoreIsInTheTable(t *testing.T) {
	t.Parallel()
	source, err := parser.ParseFile(token.NewFileSet(), "../core/error.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	kinds := 0
	for _, d := range source.Decls {
		block, ok := d.(*ast.GenDecl)
		if !ok || block.Tok != token.CONST {
			continue
		}
		first, _ := block.Specs[0].(*ast.ValueSpec)
		if name, _ := first.Type.(*ast.Ident); name != nil && name.Name == "Kind" {
			kinds += len(block.Specs)
		}
	}
	if kinds == 0 || kinds != len(statuses) {
		t.Errorf("core has %d kinds, %d have a status", kinds, len(statuses))
	}
}

func TestAnUnknownErrorSaysOnlyThatItFailed(t *testing.T) {
	t.Parallel()
	for _, err := range []error{errors.New("secret"), io.ErrUnexpectedEOF, fiber.NewError(500, "secret"),
		fiber.NewError(418, "secret"), fmt.Errorf("secret: %w", os.ErrNotExist)} {
		if status, body, _ := answerTo(err); status != 500 || body != internalError {
			t.Errorf("%v: %d %v", err, status, body)
		}
	}
}

func TestFibersErrorsLoseTheirTexts(t *testing.T) {
	t.Parallel()
	for code, want := range map[int]string{400: "invalid_request", 404: "not_found", 405: "method_not_allowed",
		408: "request_timeout",
		411: "length_required", 413: "body_too_large", 416: "range_not_satisfiable", 426: "upgrade_required",
		431: "headers_too_large", 502: "invalid_request"} {
		status, body, _ := answerTo(fiber.NewError(code, "secret"))
		if body.Code != want || strings.Contains(body.Error, "secret") || status != code && code != 502 ||
			code == 502 && status != 400 {
			t.Errorf("%d: %d %v", code, status, body)
		}
	}
}

// A relay that stops ends the reading of connections that wait, and a request may just have begun.
func TestPartsOfRequestsMayBeRepeatedElsewhereAfterAStop(t *testing.T) {
	t.Parallel()
	for stopping, want := range map[bool]int{false: 400, true: 408} {
		inner, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		app := withStopping(t, func(*fiber.Ctx) error { return nil }, io.Discard, stopping)
		done := make(chan error, 1)
		go func() { done <- app.Listener(inner) }()
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_, err = conn.Write([]byte("POST / HTTP/1.1\r\nHost: relay\r\nContent-Length: 10\r\n\r\nhalf"))
		if err = errors.Join(err, conn.(*net.TCPConn).CloseWrite()); err != nil {
			t.Fatal(err)
		}
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		if response.StatusCode != want {
			t.Errorf("stopping %v: %d, want %d", stopping, response.StatusCode, want)
		}
		if err := errors.Join(response.Body.Close(), conn.Close(), app.Shutdown(), <-done); err != nil {
			t.Error(err)
		}
	}
}

type discard struct{}

func (discard) Request(string, int, time.Duration) {}
func (discard) Gauge(string, string, func() int)   {}

// withServer makes an app of one route in front of which everything stands that surrounds a
// request.
func withServer(t *testing.T, handler fiber.Handler, logs io.Writer) *fiber.App {
	t.Helper()
	return withStopping(t, handler, logs, false)
}

func withStopping(t *testing.T, handler fiber.Handler, logs io.Writer, stopping bool) *fiber.App {
	t.Helper()
	s := &server{cfg: Config{Timeouts: Timeouts{Request: time.Minute}, Observer: discard{},
		Stopping: func() bool { return stopping },
		Logger:   slog.New(slog.NewTextHandler(logs, nil))}}
	app := fiber.New(fiber.Config{ErrorHandler: s.refuseUnread})
	app.Use(s.observe)
	app.Get("/", handler)
	return app
}

func get(t *testing.T, app *fiber.App) (status int, header http.Header, body string) {
	t.Helper()
	response, err := app.Test(httptest.NewRequest(http.MethodGet, "/", http.NoBody), -1)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, response.Header, string(text)
}

func TestAPanicIsAnInternalErrorAndItsCauseIsLogged(t *testing.T) {
	t.Parallel()
	var logs strings.Builder
	status, header, body := get(t, withServer(t, func(*fiber.Ctx) error { panic("cause of the panic") }, &logs))
	if status != 500 || body != `{"code":"internal","error":"The relay failed."}` || header.Get("X-Request-Id") == "" {
		t.Errorf("%d %s", status, body)
	}
	if !strings.Contains(logs.String(), "cause of the panic") || !strings.Contains(logs.String(), "level=ERROR") {
		t.Errorf("log: %s", &logs)
	}
}

func TestRetryAfterIsInWholeSecondsAndNeverZero(t *testing.T) {
	t.Parallel()
	for wait, want := range map[time.Duration]string{time.Millisecond: "1", time.Second: "1",
		1001 * time.Millisecond: "2", time.Hour: "3600"} {
		status, header, _ := get(t, withServer(t, func(*fiber.Ctx) error { return limited(wait) }, io.Discard))
		if got := header.Get("Retry-After"); status != 429 || got != want {
			t.Errorf("%v: %d, Retry-After %q, want %s", wait, status, got, want)
		}
	}
	status, header, _ := get(t, withServer(t, func(*fiber.Ctx) error { return core.Busy(io.EOF) }, io.Discard))
	if status != 503 || header.Get("Retry-After") != "1" {
		t.Errorf("%d, %q", status, header.Get("Retry-After"))
	}
}

// TestFasthttpIsNotTheOneThatFiberAsksFor holds the HTTP library at a version without the
// request-smuggling faults of the one that Fiber asks for.
func TestFasthttpIsNotTheOneThatFiberAsksFor(t *testing.T) {
	t.Parallel()
	mod, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	version := regexp.MustCompile(`(?m)github\.com/valyala/fasthttp v(\d+)\.(\d+)\.\d+( // indirect)?$`).FindStringSubmatch(string(mod))
	if version == nil {
		t.Fatal("go.mod does not require fasthttp")
	}
	major, _ := strconv.Atoi(version[1])
	if minor, _ := strconv.Atoi(version[2]); major == 1 && minor < 77 || major < 1 {
		t.Errorf("fasthttp is at %s, at least 1.77.0 is needed", version[0])
	}
	if regexp.MustCompile(`(?m)^replace|valyala/fasthttp .*=>`).Match(mod) {
		t.Error("go.mod replaces modules: this test proves nothing")
	}
}
