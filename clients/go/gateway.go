package obscura

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"net/http"
	"net/url"
	"time"

	"github.com/coder/websocket"

	"github.com/obscura-relay/obscura/gen/client"
)

const (
	// closeRevoked and closeDisplaced are the relay's own close codes.
	closeRevoked   = websocket.StatusCode(4401)
	closeDisplaced = websocket.StatusCode(4409)
	// settled is how long a connection must have lived for the waits to begin anew.
	settled = time.Minute
	// renewEvery and renewWithin are for a device that only receives: a session that does not renew
	// its tokens for 30 days ends.
	renewEvery  = 24 * time.Hour
	renewWithin = 30 * time.Second
)

// errBusy is for a second loop: its socket would displace the first.
var errBusy = errors.New("the events of this gateway are being received already")

// Gateway receives a device's mail. Its methods may be called from any goroutine.
type Gateway struct {
	session *Session
	acks    *acks
	// turn holds a value while there is a loop over Events.
	turn chan struct{}
}

func newGateway(s *Session) *Gateway {
	return &Gateway{session: s, acks: newAcks(), turn: make(chan struct{}, 1)}
}

// Acknowledge lets the relay forget envelopes. Call it when the result of an envelope is stored, or
// when it is certain that it can never be decrypted. It does not wait: acknowledgements made within
// 20 ms share a frame, and what could not be sent goes out on the next socket. An envelope that was
// acknowledged is not handed out again by this Gateway, whatever the relay repeats (it remembers
// the last 1000).
func (g *Gateway) Acknowledge(envelopes ...*Envelope) { g.acks.add(envelopes) }

// Events opens the gateway and hands out what comes, in order, over as many sockets as it takes.
// When a socket breaks there is a *Disconnected; then the next one opens after a random wait of up
// to 1 s, doubling to 60 s, and begins with what is not acknowledged. Acknowledge all the time: a
// relay sends 1000 envelopes ahead, and holds 1000.
//
// Break out of the loop, or end ctx, to close: what was acknowledged is sent, the socket closed and
// every goroutine gone when the loop is over, after at most about 10 s. Without a break the last
// pair is (nil, error): the error of ctx, ErrDisplaced, ErrRevoked, ErrSessionEnded, the error of
// OnTokens, or an *Error that trying again cannot help, such as 403 device_required or close code
// 1008. One loop at a time; afterwards there may be another.
//
// The memory of a loop is bounded by what a relay sends ahead: 1000 envelopes of at most 256 KiB.
func (g *Gateway) Events(ctx context.Context) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		select {
		case g.turn <- struct{}{}:
			defer func() { <-g.turn }()
		default:
			yield(nil, errBusy)
			return
		}
		var wait backoff
		for {
			lived, more, err := g.connect(ctx, yield)
			if !more {
				return
			}
			if lived > settled {
				wait = backoff{}
			}
			after, err := g.verdict(ctx, &wait, err)
			if err != nil {
				yield(nil, err)
				return
			}
			if !yield(after, nil) {
				return
			}
			if err := sleep(ctx, after.After); err != nil {
				yield(nil, err)
				return
			}
		}
	}
}

// connect serves one socket. more is false when the loop was left.
func (g *Gateway) connect(ctx context.Context, yield func(Event, error) bool) (lived time.Duration, more bool,
	err error) {
	s, err := g.open(ctx)
	if err != nil {
		return 0, true, err
	}
	defer s.close()
	renew := time.NewTicker(renewEvery)
	defer renew.Stop()
	for {
		select {
		case <-renew.C:
			within, cancel := context.WithTimeout(ctx, renewWithin)
			_, _ = g.session.tokens.get(within, "") // tomorrow is another day
			cancel()
		case e, open := <-s.events:
			if !open {
				return time.Since(s.opened), true, s.err
			}
			if envelope, is := e.(*Envelope); is && g.acks.again(envelope) {
				continue
			}
			if !yield(e, nil) {
				return 0, false, nil
			}
		case <-ctx.Done():
			return 0, true, ctx.Err()
		}
	}
}

// open opens a socket, with a fresh token or ticket if the first is refused.
func (g *Gateway) open(ctx context.Context) (*socket, error) {
	refused := ""
	for {
		address, header := g.session.relay.url+"/v1/gateway", http.Header{}
		token, err := g.session.tokens.get(ctx, refused)
		if err != nil {
			return nil, err
		}
		if g.session.relay.options.UseTicket {
			var ticket client.GatewayTicket
			response, err := g.session.api.CreateGatewayTicket(ctx)
			if err := read(response, err, &ticket); err != nil {
				return nil, err
			}
			address += "?ticket=" + url.QueryEscape(ticket.Ticket)
		} else {
			header.Set("Authorization", "Bearer "+token)
		}
		s, err := openSocket(ctx, g.session.relay.options.HTTPClient, address, header, g.acks)
		if e := refusal(err); e != nil && e.Status == http.StatusUnauthorized && refused == "" {
			refused = token
			continue
		}
		return s, err
	}
}

// verdict says what follows the end of a socket: a wait, or the end of the loop.
func (g *Gateway) verdict(ctx context.Context, wait *backoff, err error) (*Disconnected, error) {
	if ended := ctx.Err(); ended != nil {
		return nil, ended
	}
	var closed websocket.CloseError
	if !errors.As(err, &closed) {
		if !passes(err) {
			return nil, err
		}
		return &Disconnected{Err: err, After: wait.next(err)}, nil
	}
	err = &Error{Status: int(closed.Code), Message: closed.Reason}
	switch closed.Code {
	case closeDisplaced:
		return nil, fmt.Errorf("%w: %w", ErrDisplaced, err)
	case websocket.StatusPolicyViolation, websocket.StatusMessageTooBig:
		return nil, err
	case closeRevoked: // or a takeover by this very session, which goes on
		_, renewal := g.session.tokens.get(ctx, g.session.tokens.pair().Token)
		if errors.Is(renewal, ErrSessionEnded) {
			return nil, fmt.Errorf("%w: %w", ErrRevoked, renewal)
		}
		if renewal != nil {
			return nil, renewal
		}
	case websocket.StatusGoingAway:
		return &Disconnected{Err: err, After: time.Second + rand.N(4*time.Second)}, nil
	}
	return &Disconnected{Err: err, After: wait.next(err)}, nil
}
