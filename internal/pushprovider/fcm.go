package pushprovider

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"sync"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/jwt"
	"golang.org/x/sync/singleflight"

	"github.com/obscura-relay/obscura/internal/core/push"
)

const (
	fcmURL   = "https://fcm.googleapis.com"
	fcmScope = "https://www.googleapis.com/auth/firebase.messaging"
)

// FCM is Firebase Cloud Messaging, HTTP v1. Make it with NewFCM.
type FCM struct {
	client  *http.Client
	url     string
	account jwt.Config

	fetching singleflight.Group

	mu    sync.Mutex
	token *oauth2.Token // guarded by mu
}

// FCMConfig is what an FCM needs.
type FCMConfig struct {
	// Credentials is the JSON file of a service account.
	Credentials []byte
	// URL is "" for Google's, Roots are nil for those of the system.
	URL   string
	Roots *x509.CertPool
}

// errFCMCredentials says that the file is not one of a service account.
var errFCMCredentials = errors.New("it is not the JSON file of a service account: project_id, client_email, private_key, private_key_id and token_uri")

// NewFCM makes the provider for FCM.
func NewFCM(cfg FCMConfig) (*FCM, error) {
	var account struct {
		Project    string `json:"project_id"`
		Email      string `json:"client_email"`
		PrivateKey string `json:"private_key"`
		KeyID      string `json:"private_key_id"`
		TokenURI   string `json:"token_uri"`
	}
	if err := json.Unmarshal(cfg.Credentials, &account); err != nil || account.Project == "" || account.Email == "" ||
		account.TokenURI == "" || !isRSAKey(account.PrivateKey) {
		return nil, errFCMCredentials
	}
	if cfg.URL == "" {
		cfg.URL = fcmURL
	}
	return &FCM{url: cfg.URL + "/v1/projects/" + account.Project + "/messages:send",
		client: client(&http.Transport{Proxy: http.ProxyFromEnvironment, MaxIdleConnsPerHost: 8,
			TLSClientConfig: &tls.Config{RootCAs: cfg.Roots, MinVersion: tls.VersionTLS12}}),
		account: jwt.Config{Email: account.Email, PrivateKey: []byte(account.PrivateKey), PrivateKeyID: account.KeyID,
			TokenURL: account.TokenURI, Scopes: []string{fcmScope}}}, nil
}

// accessToken returns the token that there is, or fetches one for all who wait.
func (f *FCM) accessToken(ctx context.Context) (*oauth2.Token, error) {
	f.mu.Lock()
	token := f.token
	f.mu.Unlock()
	if token.Valid() {
		return token, nil
	}
	fetched := f.fetching.DoChan("", func() (any, error) {
		token, err := f.account.TokenSource(context.WithValue(context.Background(), oauth2.HTTPClient,
			f.client)).Token()
		if err == nil {
			f.mu.Lock()
			f.token = token
			f.mu.Unlock()
		}
		return token, err
	})
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case r := <-fetched:
		token, _ := r.Val.(*oauth2.Token)
		return token, r.Err
	}
}

// forget drops an access token that is not taken any more.
func (f *FCM) forget(used *oauth2.Token) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.token == used {
		f.token = nil
	}
}

// fcmMessage is the whole message: data only, so that the app and not the system handles it.
type fcmMessage struct {
	Message struct {
		Token   string            `json:"token"`
		Data    map[string]string `json:"data"`
		Android struct {
			Priority    string `json:"priority"`
			TTL         string `json:"ttl"`
			CollapseKey string `json:"collapse_key"`
		} `json:"android"`
	} `json:"message"`
}

// Send implements push.Sender.
func (f *FCM) Send(ctx context.Context, to push.Token) push.Result {
	token, err := f.accessToken(ctx)
	if err != nil {
		var refused *oauth2.RetrieveError
		if errors.As(err, &refused) {
			return push.Result{Outcome: push.Failed, Reason: "no access token: the service account is refused"}
		}
		return failed(err)
	}
	var m fcmMessage
	m.Message.Token, m.Message.Data = to.Address, map[string]string{"type": "wake"}
	m.Message.Android.Priority, m.Message.Android.CollapseKey = "HIGH", topic
	m.Message.Android.TTL = strconv.Itoa(int(lifetime.Seconds())) + "s"
	body, err := json.Marshal(m)
	if err != nil {
		return push.Result{Outcome: push.Rejected, Reason: "the token cannot be written as JSON"}
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, f.url, bytes.NewReader(body))
	if err != nil {
		return push.Result{Outcome: push.Rejected, Reason: "the project's address is malformed"}
	}
	request.Header.Set("Content-Type", "application/json")
	token.SetAuthHeader(request)
	response, err := f.client.Do(request)
	if err != nil {
		return failed(err)
	}
	defer finish(response)
	return f.judge(response, token)
}

// judge reads what FCM says of a message that it did not take.
func (f *FCM) judge(response *http.Response, token *oauth2.Token) push.Result {
	r := answered(response)
	if r.Outcome == push.Delivered {
		return r
	}
	if response.StatusCode == http.StatusUnauthorized {
		f.forget(token)
		r.Outcome = push.Failed
		return r
	}
	var answer struct {
		Error struct {
			Details []struct {
				ErrorCode       string `json:"errorCode"`
				FieldViolations []struct {
					Field string `json:"field"`
				} `json:"fieldViolations"`
			} `json:"details"`
		} `json:"error"`
	}
	_ = json.NewDecoder(response.Body).Decode(&answer) // what cannot be read says nothing more
	badToken, code := false, ""
	for _, d := range answer.Error.Details {
		if d.ErrorCode != "" {
			code = d.ErrorCode
		}
		for _, v := range d.FieldViolations {
			badToken = badToken || v.Field == "message.token"
		}
	}
	switch {
	case response.StatusCode == http.StatusNotFound && code == "UNREGISTERED",
		response.StatusCode == http.StatusForbidden && code == "SENDER_ID_MISMATCH",
		response.StatusCode == http.StatusBadRequest && badToken:
		r.Outcome = push.Invalid
	case response.StatusCode == http.StatusForbidden, response.StatusCode == http.StatusNotFound:
		r.Outcome = push.Failed // the project's permissions or its name: the operator's to mend
	}
	return r
}

// Close lets go of idle connections.
func (f *FCM) Close() { f.client.CloseIdleConnections() }
