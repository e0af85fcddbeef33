package api

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/google/uuid"
	"github.com/valyala/fasthttp"

	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/limit"
)

func TestUploadsAreBoundedAndWaitedFor(t *testing.T) {
	t.Parallel()
	u := NewRunningUploads()
	users := make([]core.UserID, maxUploads/maxUploadsOfUser)
	for i := range users {
		users[i] = uuid.New()
		for range maxUploadsOfUser {
			if err := u.begin(users[i]); err != nil {
				t.Fatal(err)
			}
		}
		if err := u.begin(users[i]); i+1 < len(users) && core.KindOf(err) != core.Limited {
			t.Error("one account has more than its part")
		}
	}
	other := uuid.New()
	if core.KindOf(u.begin(other)) != core.Unavailable {
		t.Error("one too many")
	}
	u.end(users[0])
	if err := u.begin(other); err != nil {
		t.Error("refused although there is room")
	}
	u.end(other)
	if err := u.begin(users[0]); err != nil {
		t.Error("refused although the account has room again")
	}
	soon, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	u.Shutdown(soon)
	if soon.Err() == nil {
		t.Error("it did not wait")
	}
	if u.begin(other) == nil {
		t.Error("one was taken while stopping")
	}
	go func() {
		<-u.ctx.Done()
		for i := range maxUploads {
			u.end(users[i%len(users)])
		}
	}()
	u.Abandon()
	u.Shutdown(t.Context())
	if len(u.of) != 0 {
		t.Error("accounts are remembered")
	}
}

// dribble is a connection on which a byte comes whenever it is asked for one, a second after.
type dribble struct {
	net.Conn
	until time.Time
}

func (d *dribble) SetReadDeadline(at time.Time) error { d.until = at; return nil }

func (d *dribble) Read(p []byte) (int, error) {
	if at := time.Now().Add(time.Second); at.After(d.until) {
		time.Sleep(time.Until(d.until)) // fake time
		return 0, os.ErrDeadlineExceeded
	}
	time.Sleep(time.Second) // fake time
	return 1, nil
}

func calm() limit.Pressure { return limit.NoPressure }

func TestAnUploadThatDribblesIsGivenUpSoon(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := &upload{server: &server{cfg: Config{Timeouts: Timeouts{Read: 20 * time.Second}, Pressure: calm}},
			size: core.MaxAttachment}
		begun := time.Now()
		_, err := io.Copy(io.Discard, &body{conn: &dribble{}, upload: u})
		if took := time.Since(begun); !errors.Is(err, fiber.ErrRequestTimeout) || took > 21*time.Second {
			t.Errorf("%v after %s", err, took)
		}
	})
}

// A client of S3 goes on reading in a goroutine of its own when the service has refused. By then
// the server may have given the connection to somebody else.
func TestABodyIsNotReadAfterItsUpload(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client, conn := net.Pipe()
		reads := make(chan error, 2)
		u := &upload{server: &server{cfg: Config{Timeouts: Timeouts{Read: 20 * time.Second},
			Uploads: NewRunningUploads(), Pressure: calm}}, size: 100}
		u.store = func(_ context.Context, body io.Reader, _ int64, _ *fasthttp.Response) error {
			go func() {
				for range cap(reads) {
					_, err := body.Read(make([]byte, 10))
					reads <- err
				}
			}()
			synctest.Wait() // it reads
			return core.Busy(nil)
		}
		if err := u.survive(conn); core.KindOf(err) != core.Unavailable {
			t.Error(err)
		}
		synctest.Wait()
		if len(reads) != cap(reads) || <-reads == nil || <-reads == nil {
			t.Error("the body can still be read")
		}
		_ = client.SetWriteDeadline(time.Now().Add(time.Minute))
		if n, err := client.Write(make([]byte, 10)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%d bytes were taken, %v", n, err)
		}
	})
}
