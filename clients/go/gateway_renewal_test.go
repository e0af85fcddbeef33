package obscura_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	obscura "github.com/obscura-relay/obscura/clients/go"
)

// A session lives for 30 days from its last refresh, and a socket as long as its session.
func TestAGatewayThatOnlyReceivesRenewsTheSession(t *testing.T) {
	t.Parallel()
	inFakeTime(t, obscura.Options{}, func(t *testing.T, f *fake, s *obscura.Session) {
		f.refreshing(func(_ int64, w http.ResponseWriter, _ *http.Request) { f.answerPair(w) })
		const days = 3
		f.gateway(func(c *fakeSocket) {
			alive := c.CloseRead(context.Background())
			for range days * 24 * 60 * 2 {
				time.Sleep(30 * time.Second) // fake time
				if err := c.Ping(alive); err != nil {
					t.Errorf("ping: %v", err)
					return
				}
			}
			_ = c.Close(4409, "")
		})
		_, err := listen(t, t.Context(), s.Gateway())()
		if n := f.refreshes.Load(); !errors.Is(err, obscura.ErrDisplaced) || n < days-1 || n > days {
			t.Errorf("%d refreshes in %d days, then %v", n, days, err)
		}
	})
}
