// Package pushtest is push services inside a test, which hold what they get against what real ones
// ask for: signatures, headers, encryption. For tests only.
//
// Invariant: a wake-up that a real service would not take, or whose app could not read it, fails
// the test.
package pushtest

import (
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
)

// Wake is one wake-up as a service got it.
type Wake struct {
	// Address is the endpoint, or the app's token.
	Address string
	// Plain is what the app reads, and Length the length of the body on its way.
	Plain  string
	Length int
}

// Service is what the three have in common.
type Service struct {
	// URL and Roots are where it is and whom it is vouched for by.
	URL   string
	Roots *x509.CertPool

	t testing.TB

	mu      sync.Mutex
	script  []http.HandlerFunc // guarded by mu
	always  http.HandlerFunc   // guarded by mu
	wakes   []Wake             // guarded by mu
	arrived chan struct{}      // holds one token when a wake-up has come
}

func (s *Service) serve(t testing.TB, handler http.Handler) {
	s.t, s.arrived = t, make(chan struct{}, 1)
	server := httptest.NewUnstartedServer(handler)
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	s.URL, s.Roots = server.URL, x509.NewCertPool()
	s.Roots.AddCert(server.Certificate())
}

// Then makes the next wake-ups meet these answers, one each; afterwards they are taken again.
func (s *Service) Then(answers ...http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.script = append(s.script, answers...)
}

// Always makes every wake-up that nothing else is said of meet this answer; nil takes them.
func (s *Service) Always(answer http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.always = answer
}

// Wakes are all that came, whatever the answer.
func (s *Service) Wakes() []Wake {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Wake(nil), s.wakes...)
}

// Arrived holds a token when something came since it was last looked at.
func (s *Service) Arrived() <-chan struct{} { return s.arrived }

// answer notes a wake-up and answers it as the test wants, else with take.
func (s *Service) answer(w http.ResponseWriter, r *http.Request, wake Wake, take http.HandlerFunc) {
	s.mu.Lock()
	s.wakes = append(s.wakes, wake)
	do := take
	switch {
	case len(s.script) > 0:
		do, s.script = s.script[0], s.script[1:]
	case s.always != nil:
		do = s.always
	}
	s.mu.Unlock()
	select {
	case s.arrived <- struct{}{}:
	default:
	}
	do(w, r)
}

// refuse fails the test and the request.
func (s *Service) refuse(w http.ResponseWriter, format string, args ...any) {
	s.t.Errorf(format, args...)
	w.WriteHeader(http.StatusBadRequest)
}

// Status answers with a status and headers: name, value, name, value.
func Status(status int, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(status)
	}
}

// JSON answers with a status and a body.
func JSON(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
}

// Hang does not answer until the client has given up.
func Hang(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
