package obscura_test

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	obscura "github.com/obscura-relay/obscura/clients/go"
)

// seen is what a server sees of a request.
type seen struct {
	path, connection string
	protocol         int
	header           http.Header
	tls              *tls.ConnectionState
}

func (s *seen) sealed() bool {
	return strings.HasSuffix(s.path, "/sealed") || s.header.Get("Delivery-Token") != ""
}

// recorder is a server that answers by script, or with nothing, and keeps what it sees.
type recorder struct {
	*httptest.Server

	mu     sync.Mutex
	seen   []seen                      // guarded by mu
	script []func(http.ResponseWriter) // guarded by mu
}

func record(t *testing.T, secure bool) *recorder {
	t.Helper()
	r := &recorder{}
	r.Server = httptest.NewUnstartedServer(r)
	if r.EnableHTTP2 = secure; secure {
		r.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
		r.StartTLS()
	} else {
		r.Start()
	}
	t.Cleanup(r.Close)
	return r
}

func (r *recorder) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	_, _ = io.Copy(io.Discard, request.Body)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = append(r.seen,
		seen{request.URL.Path, request.RemoteAddr, request.ProtoMajor, request.Header.Clone(), request.TLS})
	w.Header().Set("Content-Type", "application/x-protobuf")
	http.SetCookie(w, &http.Cookie{Name: "who", Value: "alice", Path: "/"})
	if len(r.script) > 0 {
		answer := r.script[0]
		r.script = r.script[1:]
		answer(w)
		return
	}
	switch {
	case strings.HasSuffix(request.URL.Path, "/devices"):
		_, _ = io.WriteString(w, `{"devicesVersion":1,"devices":[]}`)
	case strings.Contains(request.URL.Path, "/v1/users/"):
		_, _ = io.WriteString(w, `[]`)
	}
}

// session is one that nobody asks for its refresh token.
func (r *recorder) session(t *testing.T, options obscura.Options) (*obscura.Relay, *obscura.Session) {
	t.Helper()
	u, err := url.Parse(r.URL)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword("alice", "secret")
	relay, err := obscura.New(u.String(), options)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().Unix()
	claims := fmt.Sprintf(`{"sub":%q,"iat":%d,"exp":%d}`, uuid.New(), now, now+900)
	s, err := relay.Resume(obscura.Tokens{Token: "e30." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".x"})
	if err != nil {
		t.Fatal(err)
	}
	return relay, s
}

func sealedBatch() obscura.Batch {
	return obscura.NewBatch(obscura.Submission{DeviceID: uuid.New(), Message: []byte("hello"),
		DeliveryToken: obscura.NewDeliveryToken()})
}

func TestSealedCallsAreUnlinked(t *testing.T) {
	t.Parallel()
	for name, secure := range map[string]bool{"plain": false, "TLS and HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := record(t, secure)
			jar, err := cookiejar.New(nil)
			if err != nil {
				t.Fatal(err)
			}
			transport := r.Client().Transport.(*http.Transport)
			if secure {
				transport.TLSClientConfig.Certificates = r.TLS.Certificates // hers, say
				transport.TLSClientConfig.ClientSessionCache = tls.NewLRUClientSessionCache(0)
			}
			relay, s := r.session(t, obscura.Options{HTTPClient: &http.Client{Transport: transport, Jar: jar}})
			named := func() {
				if _, err := s.Send(t.Context(), batch()); err != nil {
					t.Fatal(err)
				}
			}
			named()
			named()
			user, token := uuid.New(), obscura.NewDeliveryToken()
			sealed := sealedBatch()
			r.script = []func(http.ResponseWriter){hangUp, func(w http.ResponseWriter) { refuse(w, 503, "unavailable", "1") }}
			if _, err := relay.SendSealed(t.Context(), sealed); err != nil {
				t.Fatal(err)
			}
			named()
			if _, err := relay.SealedBundles(t.Context(), user, token); err != nil {
				t.Fatal(err)
			}
			if _, err := relay.SealedDevices(t.Context(), user, token); err != nil {
				t.Fatal(err)
			}
			if _, err := relay.SendSealed(t.Context(), sealedBatch()); err != nil {
				t.Fatal(err)
			}
			named()
			r.look(t, secure, 6)
		})
	}
}

// look checks what the server has seen.
func (r *recorder) look(t *testing.T, secure bool, want int) {
	t.Helper()
	var connections, keys []string
	var names int
	for i := range r.seen {
		s := &r.seen[i]
		if !s.sealed() {
			names++
			if s.header.Get("Authorization") == "" || names > 1 && s.header.Get("Cookie") == "" ||
				secure && (s.protocol != 2 || len(s.tls.PeerCertificates) != 1) {
				t.Errorf("request %d does not say who asks: %+v", i, s)
			}
			continue
		}
		for _, telling := range []string{"Authorization", "Cookie", "X-Request-Id", "Referer"} {
			if s.header.Get(telling) != "" {
				t.Errorf("request %d has %s", i, telling)
			}
		}
		if slices.ContainsFunc(r.seen[:i], func(before seen) bool { return before.connection == s.connection }) {
			t.Errorf("request %d shares a connection", i)
		}
		if secure && (s.protocol != 1 || len(s.tls.PeerCertificates) != 0 || s.tls.DidResume) {
			t.Errorf("request %d: HTTP/%d, %d certificates, resumed: %t", i, s.protocol, len(s.tls.PeerCertificates), s.tls.DidResume)
		}
		connections = append(connections, s.connection)
		keys = append(keys, s.header.Get("Idempotency-Key"))
	}
	if len(connections) != want || names != 4 {
		t.Fatalf("%d sealed requests and %d others", len(connections), names)
	}
	if keys[0] != keys[1] || keys[1] != keys[2] || keys[0] == keys[5] || keys[3]+keys[4] != "" ||
		uuid.MustParse(keys[0]).Version() != 4 {
		t.Errorf("keys %q", keys)
	}
}

func TestSealedCallsNeverFallBack(t *testing.T) {
	t.Parallel()
	r := record(t, false)
	relay, s := r.session(t, obscura.Options{})
	if _, err := s.Send(t.Context(), sealedBatch()); err == nil {
		t.Error("a sealed batch was sent by name")
	}
	shared := obscura.NewBatch()
	shared.Shared = []obscura.SharedSubmission{obscura.NewShared([]byte("x"),
		obscura.SharedRecipient{DeviceID: uuid.New(), DeliveryToken: obscura.NewDeliveryToken()})}
	if _, err := s.Send(t.Context(), shared); err == nil {
		t.Error("a sealed body was sent by name")
	}
	short := sealedBatch()
	short.Submissions[0].DeliveryToken = []byte("short")
	for _, b := range []obscura.Batch{batch(), short, {Submissions: sealedBatch().Submissions}} {
		if _, err := relay.SendSealed(t.Context(), b); err == nil {
			t.Errorf("sent: %+v", b)
		}
	}
	if len(r.seen) != 0 {
		t.Fatalf("the relay was asked: %+v", r.seen)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	for _, answer := range []func(http.ResponseWriter){
		func(w http.ResponseWriter) { refuse(w, 400, "identified_request", "") },
		func(w http.ResponseWriter) { refuse(w, 401, "unauthorized", "") },
		func(w http.ResponseWriter) { refuse(w, 404, "not_found", "") }, // a relay that has no sealed calls
		func(w http.ResponseWriter) { refuse(w, 429, "rate_limited", "60") },
		func(w http.ResponseWriter) {
			w.Header().Set("Location", r.URL+"/v1/messages")
			w.WriteHeader(http.StatusTemporaryRedirect)
		},
	} {
		r.script = []func(http.ResponseWriter){answer}
		var e *obscura.Error
		if _, err := relay.SendSealed(ctx, sealedBatch()); !errors.As(err, &e) {
			t.Errorf("the answer was taken for a success: %v", err)
		}
	}
	if len(r.seen) != 5 || slices.ContainsFunc(r.seen, func(s seen) bool { return !s.sealed() }) {
		t.Errorf("the relay was asked: %+v", r.seen)
	}
}

func TestSealedCallsNeedATransportTheyKnow(t *testing.T) {
	t.Parallel()
	r := record(t, false)
	naming := &http.Client{Transport: naming{}}
	relay, _ := r.session(t, obscura.Options{HTTPClient: naming})
	if _, err := relay.SendSealed(t.Context(), sealedBatch()); err == nil {
		t.Error("it was sent over a transport of which nothing is known")
	}
	if _, err := relay.SealedBundles(t.Context(), uuid.New(), obscura.NewDeliveryToken()); err == nil {
		t.Error("bundles")
	}
	if _, err := relay.SealedDevices(t.Context(), uuid.New(), obscura.NewDeliveryToken()); err == nil ||
		len(r.seen) != 0 {
		t.Error("devices")
	}
	relay, _ = r.session(t, obscura.Options{HTTPClient: naming, SealedTransport: &http.Transport{}})
	if _, err := relay.SendSealed(t.Context(), sealedBatch()); err != nil || len(r.seen) != 1 {
		t.Errorf("over its own transport: %v", err)
	}
}

// naming adds credentials to every request.
type naming struct{}

func (naming) RoundTrip(*http.Request) (*http.Response, error) { return nil, errNetwork }
