package obscura

import (
	"context"
	"fmt"
	"net/http"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/gen/client"
)

// Session acts at a relay for a user, or for one of the user's devices. It may be used by many
// goroutines, and by one program at a time.
type Session struct {
	relay   *Relay
	user    uuid.UUID
	tokens  *keeper
	api     *client.Client
	blobs   *client.Client // without a time for a try: what is large takes long
	gateway *Gateway
	// certificates of the device's identity key
	certificates *certificates
}

// UserID is the user for whom the session acts.
func (s *Session) UserID() uuid.UUID { return s.user }

// DeviceID is the device for which the session acts; uuid.Nil for a user-scoped session.
func (s *Session) DeviceID() uuid.UUID {
	if id := s.tokens.pair().DeviceID; id != nil {
		return *id
	}
	return uuid.Nil
}

// DeviceNumber is what libsignal calls the device id, 1 to 127; 0 for a user-scoped session.
func (s *Session) DeviceNumber() int32 {
	if number := s.tokens.pair().DeviceNumber; number != nil {
		return *number
	}
	return 0
}

// Tokens returns the newest pair.
func (s *Session) Tokens() Tokens { return s.tokens.pair() }

// AccessToken returns an access token that lives for about two minutes or longer, for requests that
// are made by other means.
func (s *Session) AccessToken(ctx context.Context) (string, error) { return s.tokens.get(ctx, "") }

// API returns the generated client: every call of the contract, with this session's tokens, and
// repeated as the package says. What it cannot do is replace the session's pair: refresh, log out
// and change passwords with the methods of this package. Nor does a takeover by it drop what
// SenderCertificate has kept.
func (s *Session) API() *client.ClientWithResponses {
	return &client.ClientWithResponses{ClientInterface: s.api}
}

// AddDevice registers a device of the user and returns its session. This session goes on. After a
// lost answer there may be a device whose tokens nobody has: list the devices and remove it. Codes:
// invalid_key, invalid_signature, device_limit and others.
func (s *Session) AddDevice(ctx context.Context, device client.NewDevice) (*Session, error) {
	response, err := s.api.CreateDevice(ctx, device)
	var tokens Tokens
	if err := read(response, err, &tokens); err != nil {
		return nil, err
	}
	return s.relay.begin(ctx, tokens)
}

// UploadKeys refills or replaces the device's keys, at most 100 one-time keys of a kind. A new
// identity key is a takeover: pending mail goes, the gateway reconnects, the device's other
// sessions end. It may be repeated after a lost answer: no key is handed out twice. Codes:
// key_id_conflict, key_id_not_higher, invalid_signature and others.
func (s *Session) UploadKeys(ctx context.Context, keys client.KeyUpload) error {
	response, err := s.api.UploadKeys(ctx, keys)
	if keys.IdentityKey != nil { // also after an error: it may have been done
		s.certificates.drop()
	}
	return read(response, err, nil)
}

// Keys returns what the relay holds for the device, to compare with the application's own store.
func (s *Session) Keys(ctx context.Context) (keys client.KeyInventory, err error) {
	response, err := s.api.GetKeyInventory(ctx)
	err = read(response, err, &keys)
	return keys, err
}

// Bundles returns a pre-key bundle for each device of a user, or for those of its devices that are
// named, by device number. Each fetch uses up a one-time key of each kind and device, so it is not
// repeated after a lost answer. Codes: user_not_found (also for a user without devices),
// device_not_found (the user has none of those that are named), rate_limited (30 in 10 minutes for
// a user).
func (s *Session) Bundles(ctx context.Context, user uuid.UUID,
	devices ...uuid.UUID) (bundles []client.PreKeyBundle, err error) {
	response, err := s.api.GetPreKeyBundles(ctx, user, &client.GetPreKeyBundlesParams{DeviceID: devices})
	err = read(response, err, &bundles)
	return bundles, err
}

// Devices returns the devices of a user, by number, and the version of this list. It uses up no
// key. Codes: user_not_found (also for a user without devices), rate_limited.
func (s *Session) Devices(ctx context.Context, user uuid.UUID) (devices client.UserDevices, err error) {
	response, err := s.api.ListDevicesOfUser(ctx, user)
	err = read(response, err, &devices)
	return devices, err
}

// ChangePassword changes the user's password. All other sessions of the user end; this one goes on
// with a new pair. After a lost answer this one may have ended too: log in with the new password,
// then with the old one. Codes: wrong_credentials, invalid_request.
func (s *Session) ChangePassword(ctx context.Context, current, next string) error {
	return s.tokens.alone(ctx, func(pair Tokens) error {
		var tokens Tokens
		response, err := s.relay.api.ChangePassword(ctx,
			client.ChangePassword{CurrentPassword: current, NewPassword: next}, bearer(pair))
		if err := read(response, err, &tokens); err != nil {
			return err
		}
		if err := s.tokens.take(tokens); err != nil {
			return err
		}
		return s.tokens.save(ctx)
	})
}

// LogOut ends the session at the relay, with its gateway. Every later call answers ErrSessionEnded.
func (s *Session) LogOut(ctx context.Context) error {
	return s.tokens.alone(ctx, func(pair Tokens) error {
		response, err := s.relay.api.DeleteSession(ctx, client.RefreshTokenBody{RefreshToken: pair.RefreshToken},
			bearer(pair))
		if err := read(response, err, nil); err != nil {
			return err
		}
		_ = s.tokens.end(fmt.Errorf("%w: logged out", ErrSessionEnded))
		return nil
	})
}

func bearer(pair Tokens) client.RequestEditorFn {
	return func(_ context.Context, request *http.Request) error {
		request.Header.Set("Authorization", "Bearer "+pair.Token)
		return nil
	}
}

// Gateway returns the session's gateway, always the same one. It opens no socket.
func (s *Session) Gateway() *Gateway { return s.gateway }
