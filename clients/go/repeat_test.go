package obscura_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	obscura "github.com/obscura-relay/obscura/clients/go"
	"github.com/obscura-relay/obscura/gen/client"
)

func TestABatchKeepsItsKeyAndBytesThroughEveryFailure(t *testing.T) {
	t.Parallel()
	inFakeTime(t, obscura.Options{}, func(t *testing.T, f *fake, s *obscura.Session) {
		b := batch()
		bodies := make(map[string]bool)
		failures := []func(http.ResponseWriter){
			hangUp,
			func(w http.ResponseWriter) { refuse(w, 500, "internal", "") },
			func(w http.ResponseWriter) { w.WriteHeader(502) }, // a proxy's, without our body
			func(w http.ResponseWriter) { w.Header().Set("Content-Length", "10"); _, _ = io.WriteString(w, "cut") },
			func(w http.ResponseWriter) { refuse(w, 408, "request_timeout", "") },
			func(w http.ResponseWriter) { refuse(w, 401, "unauthorized", "") },
			func(w http.ResponseWriter) { refuse(w, 503, "unavailable", "7") },
			func(w http.ResponseWriter) { refuse(w, 504, "", "") },
		}
		f.refreshing(func(_ int64, w http.ResponseWriter, _ *http.Request) { f.answerPair(w) })
		n := 0
		f.HandleFunc("POST /v1/messages", func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Idempotency-Key") != b.Key.String() {
				t.Errorf("try %d: another key", n)
			}
			body, _ := io.ReadAll(r.Body)
			bodies[string(body)] = true
			if n++; n <= len(failures) {
				failures[n-1](w)
			}
		})
		if failed, err := s.Send(t.Context(), b); err != nil || len(failed) != 0 {
			t.Fatalf("send: %v, %v", failed, err)
		}
		if n != len(failures)+1 || len(bodies) != 1 {
			t.Errorf("%d tries with %d different bodies, want %d with one", n, len(bodies), len(failures)+1)
		}
	})
}

func TestARefusalIsNotRepeated(t *testing.T) {
	t.Parallel()
	inFakeTime(t, obscura.Options{}, func(t *testing.T, f *fake, s *obscura.Session) {
		var tries atomic.Int64
		f.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
			tries.Add(1)
			refuse(w, 409, "idempotency_key_reused", "")
		})
		_, err := s.Send(t.Context(), batch())
		var e *obscura.Error
		if !errors.As(err, &e) ||
			*e != (obscura.Error{Status: 409, Code: "idempotency_key_reused", Message: "A sentence.",
				RequestID: requestID}) {
			t.Errorf("send: %v", err)
		}
		if tries.Load() != 1 {
			t.Errorf("%d tries", tries.Load())
		}
		if _, err := s.Send(t.Context(), obscura.Batch{Submissions: batch().Submissions}); err == nil ||
			tries.Load() != 1 {
			t.Errorf("a batch without a key was sent: %v", err)
		}
	})
}

// A page of somebody else, or of nobody: an empty answer of the relay says that all is stored.
func TestAnswerOfSomebodyElseStoresNothing(t *testing.T) {
	t.Parallel()
	inFakeTime(t, obscura.Options{}, func(t *testing.T, f *fake, s *obscura.Session) {
		for _, kind := range []string{"", "text/html"} {
			for _, status := range []int{200, 204, 302} {
				f.ServeMux = http.NewServeMux()
				f.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Content-Type", kind)
					w.WriteHeader(status)
				})
				if failed, err := s.Send(t.Context(), batch()); err == nil {
					t.Errorf("%d of kind %q: %v", status, kind, failed)
				}
			}
		}
	})
}

// What would do its work twice is tried once.
func TestWhatIsNotHarmlessIsNotRepeated(t *testing.T) {
	t.Parallel()
	inFakeTime(t, obscura.Options{}, func(t *testing.T, f *fake, s *obscura.Session) {
		var tries atomic.Int64
		f.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
			tries.Add(1)
			refuse(w, 503, "unavailable", "1")
		})
		for name, call := range map[string]func() error{
			"bundles":  func() error { _, err := s.Bundles(t.Context(), uuid.New()); return err },
			"password": func() error { return s.ChangePassword(t.Context(), "one", "two") },
			"log-out":  func() error { return s.LogOut(t.Context()) },
		} {
			tries.Store(0)
			var e *obscura.Error
			if err := call(); !errors.As(err, &e) || e.RetryAfter != time.Second || tries.Load() != 1 {
				t.Errorf("%s: %v, %d tries", name, err, tries.Load())
			}
		}
	})
}

func TestListOfDevicesIsAskedForAgain(t *testing.T) {
	t.Parallel()
	inFakeTime(t, obscura.Options{}, func(t *testing.T, f *fake, s *obscura.Session) {
		var tries atomic.Int64
		f.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
			if tries.Add(1) < 3 {
				refuse(w, 503, "unavailable", "1")
				return
			}
			_, _ = io.WriteString(w, `{"devicesVersion":3,"devices":[]}`)
		})
		if list, err := s.Devices(t.Context(), uuid.New()); err != nil || list.DevicesVersion != 3 {
			t.Errorf("%+v, %v, %d tries", list, err, tries.Load())
		}
	})
}

// A stream is empty after the first try, and an empty body is another request.
func TestAStreamIsSentOnce(t *testing.T) {
	t.Parallel()
	inFakeTime(t, obscura.Options{}, func(t *testing.T, f *fake, s *obscura.Session) {
		f.refreshing(func(_ int64, w http.ResponseWriter, _ *http.Request) { f.answerPair(w) })
		var bodies []string
		var status int
		f.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			if bodies = append(bodies, string(body)); len(bodies) == 1 {
				refuse(w, status, map[int]string{503: "unavailable", 401: "unauthorized"}[status], "")
			}
		})
		for _, status = range []int{503, 401} {
			bodies = nil
			stream := io.MultiReader(strings.NewReader("a batch"))
			got, err := s.API().SendMessagesWithBodyWithResponse(t.Context(), &client.SendMessagesParams{},
				"application/x-protobuf", stream)
			if err != nil || got.StatusCode() != status || !slices.Equal(bodies, []string{"a batch"}) {
				t.Errorf("%d: %v, %v, bodies %q", status, got, err, bodies)
			}
		}
	})
}

func TestRetryAfterIsHonoured(t *testing.T) {
	t.Parallel()
	inFakeTime(t, obscura.Options{}, func(t *testing.T, f *fake, s *obscura.Session) {
		var last time.Time
		n := 0
		f.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
			if wait := time.Since(last); n > 0 && (wait < 20*time.Second || wait > 40*time.Second) {
				t.Errorf("try %d came after %s, want 20 s and a random part of it", n+1, wait)
			}
			last = time.Now()
			if n++; n <= 5 {
				refuse(w, []int{429, 503}[n%2], "rate_limited", "20")
			}
		})
		if _, err := s.Send(t.Context(), batch()); err != nil || n != 6 {
			t.Errorf("send: %v, %d tries", err, n)
		}
	})
}

func TestACallDoesNotWaitForWhatItCannotSee(t *testing.T) {
	t.Parallel()
	inFakeTime(t, obscura.Options{}, func(t *testing.T, f *fake, s *obscura.Session) {
		f.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { refuse(w, 429, "rate_limited", "60") })
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		before := time.Now()
		_, err := s.Send(ctx, batch())
		var e *obscura.Error
		if !errors.As(err, &e) || e.RetryAfter != time.Minute || time.Since(before) != 0 {
			t.Errorf("send: %v, after %s", err, time.Since(before))
		}
	})
}

func TestTheEndOfAContextEndsTheTriesAndTellsTheLast(t *testing.T) {
	t.Parallel()
	inFakeTime(t, obscura.Options{}, func(t *testing.T, f *fake, s *obscura.Session) {
		var tries []time.Duration
		start := time.Now()
		f.refreshing(func(_ int64, w http.ResponseWriter, _ *http.Request) { f.answerPair(w) })
		f.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
			tries = append(tries, time.Since(start))
			refuse(w, 500, "internal", "")
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		_, err := s.Send(ctx, batch())
		var e *obscura.Error
		if !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &e) || e.Status != 500 {
			t.Errorf("send: %v", err)
		}
		// An hour of waits of 30 s on average, after the first few.
		if n := len(tries); n < 60 || n > 240 {
			t.Errorf("%d tries in an hour", n)
		}
		for i, longest := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60} {
			if wait := tries[i+1] - tries[i]; wait > longest*time.Second {
				t.Errorf("wait %d was %s, want at most %s", i+1, wait, longest*time.Second)
			}
		}
	})
}

func TestAnErrorDoesNotHoldWhereTheRequestWent(t *testing.T) {
	t.Parallel()
	inFakeTime(t, obscura.Options{}, func(t *testing.T, f *fake, s *obscura.Session) {
		f.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { hangUp(w) })
		user := uuid.New()
		if _, err := s.Bundles(t.Context(), user); err == nil || strings.Contains(err.Error(), user.String()) {
			t.Errorf("bundles: %v", err)
		}
	})
}
