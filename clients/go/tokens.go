package obscura

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/gen/client"
)

const (
	// refreshBefore is how long before its end an access token is replaced.
	refreshBefore = 2 * time.Minute
	// refreshForgiven is how long after its first use a refresh token may be used again, because
	// the answer was lost.
	refreshForgiven = 10 * time.Second
	// refreshTry bounds one try: two of them and the wait between fit into that.
	refreshTry = 4 * time.Second
	// refreshPause is how long a token that still works is used after the relay could not replace
	// it.
	refreshPause = 10 * time.Second
)

// claims is what this package reads of an access token.
type claims struct {
	User   uuid.UUID `json:"sub"`
	Issued int64     `json:"iat"`
	Ends   int64     `json:"exp"`
}

// life is how long the token lives from when it was made, whatever this machine's clock says.
func (c claims) life() time.Duration { return time.Duration(c.Ends-c.Issued) * time.Second }

func claimsOf(token string) (c claims, err error) {
	if parts := strings.Split(token, "."); len(parts) == 3 {
		payload, err := base64.RawURLEncoding.DecodeString(parts[1])
		if err == nil && json.Unmarshal(payload, &c) == nil && c.User != uuid.Nil && c.life() > 0 {
			return c, nil
		}
	}
	return c, errors.New("the access token is not one of a relay")
}

// keeper keeps a session's tokens fresh.
//
// Invariants: one refresh at a time; no pair is used that OnTokens has not stored.
type keeper struct {
	relay *Relay
	// turn is held, by whoever put a value into it, to replace or to store the pair.
	turn chan struct{}
	used time.Time // owned by the holder of turn: when the refresh token may first have been used

	mu      sync.Mutex
	tokens  Tokens    // guarded by mu, written by the holder of turn
	due     time.Time // guarded by mu: when to refresh
	ends    time.Time // guarded by mu: when the access token is good for nothing
	unsaved bool      // guarded by mu: OnTokens has not stored the pair
	ended   error     // guarded by mu: why the session is over
}

func newKeeper(r *Relay, tokens Tokens, life time.Duration) *keeper {
	k := &keeper{relay: r, turn: make(chan struct{}, 1)}
	k.setLocked(tokens, life)
	return k
}

func (k *keeper) setLocked(tokens Tokens, life time.Duration) {
	if tokens.DeviceID != nil && tokens.RefreshToken != "" {
		k.relay.shown.Store(*tokens.DeviceID, tokens.RefreshToken)
	}
	k.tokens, k.ends = tokens, time.Now().Add(life)
	k.due = k.ends.Add(-min(refreshBefore, life/5))
}

func (k *keeper) pair() Tokens {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.tokens
}

// ready returns the access token, and whether it may be used without further work.
func (k *keeper) ready() (token string, ok bool, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.tokens.Token, time.Now().Before(k.due) && !k.unsaved, k.ended
}

// get returns an access token that lives for a while yet and is not the one that was refused.
func (k *keeper) get(ctx context.Context, refused string) (string, error) {
	if token, ok, err := k.ready(); err != nil || ok && token != refused {
		return token, err
	}
	if err := k.enter(ctx); err != nil {
		return "", err
	}
	defer k.leave()
	for wait := (backoff{}); ; {
		if err := k.save(ctx); err != nil {
			return "", err
		}
		if token, ok, err := k.ready(); err != nil || ok && token != refused {
			return token, err
		}
		err := k.refresh(ctx)
		if err == nil {
			continue
		}
		if !passes(err) {
			return "", err
		}
		if token, ok := k.postpone(refused); ok {
			return token, nil
		}
		if err := wait.pause(ctx, err); err != nil {
			return "", err
		}
	}
}

// alone calls do with a fresh pair while nobody replaces it, and again with another one after a
// 401: the clock by which a token is fresh stands still while a laptop sleeps.
func (k *keeper) alone(ctx context.Context, do func(Tokens) error) error {
	if _, err := k.get(ctx, ""); err != nil {
		return err
	}
	if err := k.enter(ctx); err != nil {
		return err
	}
	defer k.leave()
	if err := do(k.pair()); !stale(err) {
		return err
	}
	if err := k.refresh(ctx); err != nil {
		return err
	}
	if err := k.save(ctx); err != nil {
		return err
	}
	return do(k.pair())
}

func (k *keeper) enter(ctx context.Context) error {
	select {
	case k.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (k *keeper) leave() { <-k.turn }

// refresh trades the refresh token for a new pair; turn is held. A token that may have been used is
// tried again for as long as the relay forgives that, even if ctx ends: after that it would cost
// the session.
func (k *keeper) refresh(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	for wait := (backoff{}); ; {
		began := time.Now()
		err := k.refreshOnce(ctx)
		if err == nil || !undecided(err) {
			return err
		}
		if k.used.IsZero() {
			k.used = began
		}
		forgiven, cancel := context.WithDeadline(ctx, k.used.Add(refreshForgiven))
		late := wait.pause(forgiven, err)
		cancel()
		if late != nil {
			return err
		}
	}
}

func (k *keeper) refreshOnce(ctx context.Context) error {
	old := k.pair().RefreshToken
	if old == "" {
		return k.end(fmt.Errorf("%w: it has no refresh token", ErrSessionEnded))
	}
	ctx, cancel := context.WithTimeout(ctx, refreshTry)
	defer cancel()
	var tokens Tokens
	response, err := k.relay.api.RefreshSession(ctx, client.RefreshTokenBody{RefreshToken: old})
	err = read(response, err, &tokens)
	if e := refusal(err); e != nil && e.Status == http.StatusUnauthorized {
		return k.end(fmt.Errorf("%w: %w", ErrSessionEnded, err))
	}
	if err != nil {
		return err
	}
	return k.take(tokens)
}

// take makes a pair the session's; turn is held.
func (k *keeper) take(tokens Tokens) error {
	c, err := claimsOf(tokens.Token)
	if err != nil {
		return err
	}
	k.used = time.Time{}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.setLocked(tokens, c.life())
	k.unsaved = true
	return nil
}

// save hands a new pair to the application; turn is held.
func (k *keeper) save(ctx context.Context) error {
	k.mu.Lock()
	tokens, unsaved := k.tokens, k.unsaved
	k.mu.Unlock()
	if !unsaved {
		return nil
	}
	if store := k.relay.options.OnTokens; store != nil {
		if err := store(context.WithoutCancel(ctx), tokens); err != nil {
			return fmt.Errorf("OnTokens failed: %w", err)
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.unsaved = false
	return nil
}

// postpone returns the token that could not be replaced if it still works, and puts the next try
// off.
func (k *keeper) postpone(refused string) (token string, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.tokens.Token == refused || !time.Now().Before(k.ends) {
		return "", false
	}
	k.due = time.Now().Add(refreshPause)
	return k.tokens.Token, true
}

func (k *keeper) end(err error) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ended = err
	return err
}
