package obscura_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	obscura "github.com/obscura-relay/obscura/clients/go"
	"github.com/obscura-relay/obscura/gen/client"
)

// store keeps pairs as an application does, and can fail.
type store struct {
	mu    sync.Mutex
	pairs []obscura.Tokens // guarded by mu
	err   error            // guarded by mu
}

func (s *store) save(_ context.Context, tokens obscura.Tokens) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	s.pairs = append(s.pairs, tokens)
	return nil
}

func (s *store) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func (s *store) saved() []obscura.Tokens {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pairs
}

func sendOnce(f *fake) *sync.Map {
	var tokens sync.Map
	f.HandleFunc("POST /v1/messages", func(_ http.ResponseWriter, r *http.Request) {
		tokens.Store(r.Header.Get("Authorization"), true)
	})
	return &tokens
}

func TestATokenIsRenewedBeforeItEnds(t *testing.T) {
	t.Parallel()
	kept := &store{}
	inFakeTime(t, obscura.Options{OnTokens: kept.save}, func(t *testing.T, f *fake, s *obscura.Session) {
		used := sendOnce(f)
		f.refreshing(func(_ int64, w http.ResponseWriter, _ *http.Request) { f.answerPair(w) })
		first := s.Tokens()
		for _, at := range []time.Duration{time.Minute, 11 * time.Minute, 90 * time.Second} {
			time.Sleep(at) // fake time
			var callers sync.WaitGroup
			for range 20 { // all of them at once, one refresh
				callers.Go(func() {
					if _, err := s.Send(t.Context(), batch()); err != nil {
						t.Error(err)
					}
				})
			}
			callers.Wait()
		}
		if n := f.refreshes.Load(); n != 1 {
			t.Errorf("%d refreshes in 13.5 minutes, want 1", n)
		}
		if got := kept.saved(); len(got) != 1 || got[0].RefreshToken != "refresh 2" ||
			s.Tokens().RefreshToken != "refresh 2" {
			t.Errorf("stored: %v", got)
		}
		for _, token := range []string{first.Token, s.Tokens().Token} {
			if _, ok := used.Load("Bearer " + token); !ok {
				t.Error("a token was never used")
			}
		}
	})
}

func TestANewPairIsStoredBeforeItIsUsed(t *testing.T) {
	t.Parallel()
	kept := &store{}
	inFakeTime(t, obscura.Options{OnTokens: kept.save}, func(t *testing.T, f *fake, s *obscura.Session) {
		used := sendOnce(f)
		f.refreshing(func(_ int64, w http.ResponseWriter, _ *http.Request) { f.answerPair(w) })
		full := errors.New("the disk is full")
		kept.fail(full)
		time.Sleep(14 * time.Minute) // fake time
		for range 2 {
			if _, err := s.Send(t.Context(), batch()); !errors.Is(err, full) {
				t.Fatalf("send: %v", err)
			}
		}
		used.Range(func(any, any) bool { t.Error("a request was made"); return true })
		kept.fail(nil)
		if _, err := s.Send(t.Context(), batch()); err != nil {
			t.Fatal(err)
		}
		if got := kept.saved(); len(got) != 1 || f.refreshes.Load() != 1 {
			t.Errorf("%d pairs stored, %d refreshes; want one of each: the pair that could not be stored is not forgotten", len(got), f.refreshes.Load())
		}
	})
}

func TestALostRefreshIsTriedAgainWithin10Seconds(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(http.ResponseWriter, *http.Request){
		"broken": func(w http.ResponseWriter, _ *http.Request) { hangUp(w) },
		"silent": func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done(); hangUp(w) },
		"500":    func(w http.ResponseWriter, _ *http.Request) { refuse(w, 500, "internal", "") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inFakeTime(t, obscura.Options{}, func(t *testing.T, f *fake, s *obscura.Session) {
				sendOnce(f)
				var spent time.Time
				f.refreshing(func(n int64, w http.ResponseWriter, r *http.Request) {
					if n == 1 {
						spent = time.Now()
						lose(w, r)
						return
					}
					if late := time.Since(spent); late > 6*time.Second {
						t.Errorf("tried again after %s", late)
					}
					f.answerPair(w)
				})
				time.Sleep(16 * time.Minute) // fake time: the access token has expired
				if _, err := s.Send(t.Context(), batch()); err != nil || f.refreshes.Load() != 2 {
					t.Errorf("send: %v, after %d refreshes", err, f.refreshes.Load())
				}
			})
		})
	}
}

// A session that is left with a refresh token that was used, and idle then, would be lost.
func TestARefreshIsNotAbandonedByWhoWaitsForIt(t *testing.T) {
	t.Parallel()
	for name, at := range map[string]time.Duration{"the token has expired": 16 * time.Minute,
		"the token still works": 14 * time.Minute} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inFakeTime(t, obscura.Options{}, func(t *testing.T, f *fake, s *obscura.Session) {
				sendOnce(f)
				f.refreshing(func(n int64, w http.ResponseWriter, _ *http.Request) {
					time.Sleep(2 * time.Second) // fake time
					if n%2 == 1 {
						hangUp(w)
					}
					f.answerPair(w)
				})
				for _, want := range []string{"refresh 2", "refresh 3"} {
					time.Sleep(at) // fake time
					start := time.Now()
					ctx, cancel := context.WithTimeout(t.Context(), time.Second)
					if _, err := s.Send(ctx, batch()); !errors.Is(err, context.DeadlineExceeded) ||
						time.Since(start) > 10*time.Second {
						t.Errorf("send: %v, after %s", err, time.Since(start))
					}
					cancel()
					if got := s.Tokens().RefreshToken; got != want {
						t.Errorf("the pair that came after the caller had gone is lost: it has %q, want %q", got, want)
					}
				}
			})
		})
	}
}

// Without a connection nothing was asked, so nothing can be lost: who waits is not kept.
func TestARefreshThatWasNeverSentIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	for name, at := range map[string]time.Duration{"the token has expired": 16 * time.Minute,
		"the token still works": 14 * time.Minute} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inFakeTime(t, obscura.Options{}, func(t *testing.T, f *fake, s *obscura.Session) {
				time.Sleep(at) // fake time
				_ = f.Close()
				start := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
				defer cancel()
				if _, err := s.Send(ctx, batch()); !errors.Is(err, context.DeadlineExceeded) ||
					time.Since(start) > 100*time.Millisecond {
					t.Errorf("send: %v, after %s", err, time.Since(start))
				}
			})
		})
	}
}

func TestATokenThatWorksIsUsedWhileTheRelayCannotRenewIt(t *testing.T) {
	t.Parallel()
	inFakeTime(t, obscura.Options{}, func(t *testing.T, f *fake, s *obscura.Session) {
		sendOnce(f)
		f.refreshing(func(n int64, w http.ResponseWriter, _ *http.Request) {
			if n <= 3 {
				refuse(w, 429, "rate_limited", "1")
				return
			}
			f.answerPair(w)
		})
		time.Sleep(14 * time.Minute) // fake time
		for range 25 {
			before := time.Now()
			if _, err := s.Send(t.Context(), batch()); err != nil || time.Since(before) > 0 {
				t.Fatalf("send: %v, after %s", err, time.Since(before))
			}
			time.Sleep(time.Second) // fake time
		}
		if n := f.refreshes.Load(); n != 3 {
			t.Errorf("%d refreshes in 25 s, want one in 10 s", n)
		}
	})
}

// Once the relay no longer forgives a second use there is no hurry.
func TestARelayThatFailsIsNotFloodedWithRefreshes(t *testing.T) {
	t.Parallel()
	inFakeTime(t, obscura.Options{}, func(t *testing.T, f *fake, s *obscura.Session) {
		f.refreshing(func(_ int64, w http.ResponseWriter, _ *http.Request) { refuse(w, 500, "internal", "") })
		time.Sleep(16 * time.Minute) // fake time
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		var e *obscura.Error
		if _, err := s.Send(ctx, batch()); !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &e) {
			t.Errorf("send: %v", err)
		}
		if n := f.refreshes.Load(); n < 60 || n > 240 {
			t.Errorf("%d refreshes in an hour", n)
		}
	})
}

func TestARefusedRefreshEndsTheSession(t *testing.T) {
	t.Parallel()
	inFakeTime(t, obscura.Options{}, func(t *testing.T, f *fake, s *obscura.Session) {
		f.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { refuse(w, 401, "unauthorized", "") })
		f.refreshing(func(_ int64, w http.ResponseWriter, _ *http.Request) {
			refuse(w, 401, "invalid_refresh_token", "")
		})
		for range 3 {
			_, err := s.Send(t.Context(), batch())
			var e *obscura.Error
			if !errors.Is(err, obscura.ErrSessionEnded) || !errors.As(err, &e) || e.Code != "invalid_refresh_token" ||
				e.RequestID != requestID {
				t.Fatalf("send: %v", err)
			}
		}
		if n := f.refreshes.Load(); n != 1 {
			t.Errorf("%d refreshes, want 1: there is nothing to hope for", n)
		}
	})
}

func TestAfterA401TheTokenIsRenewedOnce(t *testing.T) {
	t.Parallel()
	inFakeTime(t, obscura.Options{}, func(t *testing.T, f *fake, s *obscura.Session) {
		var tries atomic.Int64
		f.HandleFunc("DELETE /v1/account", func(w http.ResponseWriter, _ *http.Request) {
			refuse(w, 401, "wrong_credentials", "")
		})
		f.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
			tries.Add(1)
			if strings.HasSuffix(r.Header.Get("Authorization"), ".1") || r.URL.Path == "/v1/account" {
				refuse(w, 401, "unauthorized", "")
			}
		})
		f.refreshing(func(_ int64, w http.ResponseWriter, _ *http.Request) { f.answerPair(w) })
		var callers sync.WaitGroup
		for range 10 {
			callers.Go(func() {
				if _, err := s.Send(t.Context(), batch()); err != nil {
					t.Error(err)
				}
			})
		}
		callers.Wait()
		synctest.Wait()
		if n := f.refreshes.Load(); n != 1 {
			t.Errorf("%d refreshes for ten refused requests, want 1", n)
		}
		tries.Store(0)
		if got, err := s.API().GetAccountWithResponse(t.Context()); err != nil || got.StatusCode() != 401 ||
			tries.Load() != 2 {
			t.Errorf("a request that is refused whatever its token: %v, %v, %d tries", err, got, tries.Load())
		}
		refreshes := f.refreshes.Load()
		got, err := s.API().DeleteAccountWithResponse(t.Context(), client.DeleteAccount{Password: "not the password"})
		if err != nil || got.StatusCode() != 401 || f.refreshes.Load() != refreshes {
			t.Errorf("a wrong password is not the token's fault: %v, %v", got, err)
		}
	})
}

func TestAChangeOfPasswordAndALogOutRenewATokenThatIsRefused(t *testing.T) {
	t.Parallel()
	inFakeTime(t, obscura.Options{}, func(t *testing.T, f *fake, s *obscura.Session) {
		var refused string
		endThen := func(answer func(http.ResponseWriter)) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Authorization") == refused {
					refuse(w, 401, "unauthorized", "")
					return
				}
				answer(w)
			}
		}
		f.HandleFunc("PUT /v1/account/password", endThen(f.answerPair))
		f.HandleFunc("DELETE /v1/sessions", endThen(func(http.ResponseWriter) {}))
		f.refreshing(func(_ int64, w http.ResponseWriter, _ *http.Request) { f.answerPair(w) })
		for want, call := range []func() error{
			func() error { return s.ChangePassword(t.Context(), "one", "two") },
			func() error { return s.LogOut(t.Context()) },
		} {
			refused = "Bearer " + s.Tokens().Token
			if err := call(); err != nil || f.refreshes.Load() != int64(want)+1 {
				t.Errorf("call %d: %v, after %d refreshes", want, err, f.refreshes.Load())
			}
		}
	})
}
