package obscura

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/gen/client"
)

// Tokens is what an application stores of a session: JSON that it need not look into.
type Tokens = client.AuthResponse

// Options change how a Relay is talked to. The zero value is fit for use.
type Options struct {
	// HTTPClient makes the requests and opens the gateway; its Timeout bounds each try of a
	// request, except for attachments and uploads of a backup, which last as long as their context.
	// By default one with a timeout of 30 s.
	HTTPClient *http.Client
	// OnTokens stores the tokens of a session, and is called with every new pair before its first
	// use, in one goroutine at a time for a session. When it fails, so does the call that needed
	// the pair, and the next call hands the same pair over again. It must not call the session, and
	// does not see the end of the call's context. A program that restarts with a pair older than
	// the newest one is taken for a thief after 10 s, and its session ends.
	OnTokens func(context.Context, Tokens) error
	// UseTicket opens the gateway with a ticket in place of the access token, for proxies that drop
	// the Authorization header.
	UseTicket bool
	// SealedTransport makes the connections of sealed calls: SendSealed, SealedBundles and others.
	// By default a copy of HTTPClient's transport that makes a connection for every call, of
	// HTTP/1, and shows no client certificate. Where HTTPClient has a RoundTripper that is no
	// *http.Transport, sealed calls fail without this one. It adds no credentials and no cookies.
	SealedTransport http.RoundTripper
}

// Relay is a relay to talk to. It may be used by many goroutines.
type Relay struct {
	url     string
	options Options
	api     *client.Client
	// sealed is nil when there is errSealed.
	sealed    *client.Client
	errSealed error
	// shown has the last refresh token of each device that had a session here, also when it has
	// ended: by device id.
	shown sync.Map
}

// New returns the relay at a URL such as https://relay.example. It makes no request.
func New(relayURL string, options Options) (*Relay, error) {
	u, err := url.Parse(relayURL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errors.New("the URL of a relay looks like https://relay.example")
	}
	if options.HTTPClient == nil {
		options.HTTPClient = &http.Client{Timeout: 30 * time.Second}
	}
	r := &Relay{url: strings.TrimSuffix(relayURL, "/"), options: options}
	r.sealed, r.errSealed = r.options.sealed(u)
	r.api, err = client.NewClient(r.url, client.WithHTTPClient(&caller{http: options.HTTPClient}))
	return r, err
}

// Info is what a relay takes: who may register, and its limits.
type Info = client.Info

// Info asks who may register, and what fits. Codes: rate_limited.
func (r *Relay) Info(ctx context.Context) (Info, error) {
	var info Info
	response, err := r.api.GetInfo(ctx)
	err = read(response, err, &info)
	return info, err
}

// Register registers a user and returns a user-scoped session: one that may add devices and manage
// the account. After a lost answer the name may be taken, by this very user: log in. Codes:
// username_taken, registration_closed, invitation_required, invalid_request, rate_limited.
func (r *Relay) Register(ctx context.Context, username, password string) (*Session, error) {
	return r.register(ctx, client.Credentials{Username: username, Password: password})
}

// RegisterInvited is Register with an invitation, for a relay whose Info says RegistrationInvite.
// Codes: invitation_required, and those of Register.
func (r *Relay) RegisterInvited(ctx context.Context, username, password, invitation string) (*Session, error) {
	return r.register(ctx, client.Credentials{Username: username, Password: password, Invitation: &invitation})
}

func (r *Relay) register(ctx context.Context, credentials client.Credentials) (*Session, error) {
	response, err := r.api.CreateUser(ctx, credentials)
	var tokens Tokens
	if err := read(response, err, &tokens); err != nil {
		return nil, err
	}
	return r.begin(ctx, tokens)
}

// LogIn returns a new session for a device of the user, or a user-scoped one for uuid.Nil. When
// there is no such device any more the session is user-scoped too: look at DeviceID. When r has had
// a session of the device, be it a resumed one that has ended, it shows the last refresh token of
// that: then the log-in waits for no wrong passwords but its own. Codes:
// wrong_credentials, account_disabled, too_many_wrong_passwords (with RetryAfter, up to 15
// minutes), rate_limited.
func (r *Relay) LogIn(ctx context.Context, username, password string, device uuid.UUID) (*Session, error) {
	body := client.LogIn{Username: username, Password: password}
	if device != uuid.Nil {
		body.DeviceID = &device
	}
	if token, known := r.shown.Load(device); known {
		refresh, _ := token.(string)
		body.RefreshToken = &refresh
	}
	response, err := r.api.CreateSession(ctx, body)
	var tokens Tokens
	if err := read(response, err, &tokens); err != nil {
		return nil, err
	}
	return r.begin(ctx, tokens)
}

// Resume goes on with tokens that OnTokens has stored. It makes no request. Without a refresh token
// the session lasts as long as the access token.
func (r *Relay) Resume(tokens Tokens) (*Session, error) {
	c, err := claimsOf(tokens.Token)
	if err != nil {
		return nil, err
	}
	return r.session(tokens, c, time.Until(time.Unix(c.Ends, 0)))
}

// begin makes a session of new tokens.
func (r *Relay) begin(ctx context.Context, tokens Tokens) (*Session, error) {
	c, err := claimsOf(tokens.Token)
	if err != nil {
		return nil, err
	}
	s, err := r.session(tokens, c, c.life())
	if err != nil {
		return nil, err
	}
	s.tokens.unsaved = true
	if _, err := s.tokens.get(ctx, ""); err != nil {
		return nil, err
	}
	return s, nil
}

func (r *Relay) session(tokens Tokens, c claims, life time.Duration) (*Session, error) {
	s := &Session{relay: r, user: c.User, tokens: newKeeper(r, tokens, life), certificates: newCertificates()}
	s.gateway = newGateway(s)
	patient := *r.options.HTTPClient
	patient.Timeout = 0
	var err, errBlobs error
	s.api, err = client.NewClient(r.url, client.WithHTTPClient(&caller{http: r.options.HTTPClient, tokens: s.tokens}))
	s.blobs, errBlobs = client.NewClient(r.url,
		client.WithHTTPClient(&caller{http: &patient, tokens: s.tokens, streams: true}))
	return s, errors.Join(err, errBlobs)
}
