package api

import (
	"context"
	"errors"
	"fmt"
	"strings"

	openapi_types "github.com/oapi-codegen/runtime/types"

	"github.com/obscura-relay/obscura/gen/api"
	"github.com/obscura-relay/obscura/gen/obscurapb"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/core/account"
	"github.com/obscura-relay/obscura/internal/core/blob"
	"github.com/obscura-relay/obscura/internal/core/device"
)

// CreateUser registers a user.
func (s *server) CreateUser(ctx context.Context, r api.CreateUserRequestObject) (api.CreateUserResponseObject, error) {
	invitation := ""
	if r.Body.Invitation != nil {
		invitation = clone(*r.Body.Invitation)
	}
	tokens, err := s.cfg.Accounts.Register(ctx, clone(r.Body.Username), clone(r.Body.Password), invitation)
	return api.CreateUser201JSONResponse{Body: authResponse(tokens)}, err
}

// CreateSession logs in.
func (s *server) CreateSession(ctx context.Context, r api.CreateSessionRequestObject) (api.CreateSessionResponseObject,
	error) {
	in := account.LogIn{Username: clone(r.Body.Username), Password: clone(r.Body.Password), Device: r.Body.DeviceID,
		From: callerOf(ctx).address.addr()}
	if r.Body.RefreshToken != nil {
		in.Refresh = clone(*r.Body.RefreshToken)
	}
	tokens, err := s.cfg.Accounts.LogIn(ctx, in)
	return api.CreateSession200JSONResponse{Body: authResponse(tokens)}, err
}

// RefreshSession trades a refresh token.
func (s *server) RefreshSession(ctx context.Context,
	r api.RefreshSessionRequestObject) (api.RefreshSessionResponseObject, error) {
	tokens, err := s.cfg.Accounts.Refresh(ctx, clone(r.Body.RefreshToken))
	return api.RefreshSession200JSONResponse{Body: authResponse(tokens)}, err
}

// DeleteSession logs out.
func (s *server) DeleteSession(ctx context.Context, r api.DeleteSessionRequestObject) (api.DeleteSessionResponseObject,
	error) {
	err := s.cfg.Accounts.LogOut(ctx, principal(ctx), clone(r.Body.RefreshToken))
	return api.DeleteSession200Response{}, err
}

// ChangePassword changes the password.
func (s *server) ChangePassword(ctx context.Context,
	r api.ChangePasswordRequestObject) (api.ChangePasswordResponseObject, error) {
	tokens, err := s.cfg.Accounts.ChangePassword(ctx, principal(ctx), clone(r.Body.CurrentPassword),
		clone(r.Body.NewPassword))
	return api.ChangePassword200JSONResponse{Body: authResponse(tokens)}, err
}

// DeleteAccount deletes the account.
func (s *server) DeleteAccount(ctx context.Context, r api.DeleteAccountRequestObject) (api.DeleteAccountResponseObject,
	error) {
	err := s.cfg.Accounts.Delete(ctx, principal(ctx), clone(r.Body.Password))
	return api.DeleteAccount200Response{}, err
}

// An export reads all that there is of an account, so a node makes few at once: a connection to the
// database each. Others wait, and hold none.
const (
	exportsAtOnce  = 2
	exportsWaiting = 16
)

// GetAccount exports everything that is kept for the account.
func (s *server) GetAccount(ctx context.Context, _ api.GetAccountRequestObject) (api.GetAccountResponseObject, error) {
	if err := s.exports.Enter(ctx); err != nil {
		return nil, core.Busy(fmt.Errorf("exports: %w", err))
	}
	defer s.exports.Leave()
	user := principal(ctx).User
	own, err := s.cfg.Accounts.Export(ctx, user)
	if err != nil {
		return nil, err
	}
	devices, err := s.cfg.Devices.Export(ctx, user)
	if err != nil {
		return nil, err
	}
	blobs, err := s.cfg.Blobs.Export(ctx, user)
	if err != nil {
		return nil, err
	}
	tokens, err := s.cfg.DeliveryTokens.List(ctx, user)
	if err != nil {
		return nil, err
	}
	out := api.Account{UserID: own.User, Username: own.Username, CreatedAt: own.CreatedAt,
		SeenOn:       openapi_types.Date{Time: own.SeenOn},
		PasswordHash: own.PasswordScheme,
		Sessions:     []api.AccountSession{}, Devices: []api.AccountDevice{},
		RestingDeviceNumbers: []api.DeviceNumber{},
		Attachments:          []api.AccountAttachment{}, UploadedToday: blobs.UploadedToday,
		DeliveryTokens: tokensResponse(tokens), WrongPasswords: api.AccountWrongPasswords{Count: own.WrongPasswords}}
	if own.WrongPasswords > 0 {
		out.WrongPasswords.LastAt = &own.LastWrong
	}
	for _, n := range own.Resting {
		out.RestingDeviceNumbers = append(out.RestingDeviceNumbers, int32(n))
	}
	for _, session := range own.Sessions {
		out.Sessions = append(out.Sessions, api.AccountSession{SessionID: session.ID, DeviceID: session.Device,
			CreatedAt: session.CreatedAt, ExpiresAt: session.ExpiresAt})
	}
	for _, a := range blobs.Attachments {
		out.Attachments = append(out.Attachments, api.AccountAttachment{ID: a.ID, Size: a.Size, CreatedAt: a.CreatedAt,
			ExpiresAt: a.ExpiresAt})
	}
	for i := range devices {
		d := &devices[i]
		kept, err := s.backupResponse(ctx, d.Device.ID)
		if err != nil {
			return nil, err
		}
		out.Devices = append(out.Devices,
			api.AccountDevice{Device: deviceResponse(d.Device), Keys: inventoryResponse(&d.Inventory),
				Mailbox: mailboxResponse(d), Backup: kept, PushToken: pushTokenResponse(d.PushToken)})
	}
	return api.GetAccount200JSONResponse{Body: out}, nil
}

func (s *server) backupResponse(ctx context.Context, device core.DeviceID) (*api.AccountBackup, error) {
	b, err := s.cfg.Blobs.Backup(ctx, device)
	if errors.Is(err, blob.ErrNoBackup) {
		return nil, nil
	}
	return &api.AccountBackup{Version: b.Version, Size: b.Size, StoredAt: b.StoredAt}, err
}

func mailboxResponse(d *device.Export) api.AccountMailbox {
	out := api.AccountMailbox{Accepted: d.Accepted, Acknowledged: d.Acknowledged, Pending: d.Pending,
		PendingBytes: d.PendingBytes, Receipts: d.Receipts, SocketsOpened: d.SocketsOpened, Gaps: []api.AccountGap{}}
	for _, g := range d.Gaps {
		out.Gaps = append(out.Gaps,
			api.AccountGap{From: g.From, To: g.To,
				Reason: api.AccountGapReason(strings.TrimPrefix(obscurapb.Gap_Reason(g.Reason).String(), "REASON_"))})
	}
	return out
}

func authResponse(t account.Tokens) api.AuthResponse {
	out := api.AuthResponse{Token: t.Access, RefreshToken: t.Refresh, ExpiresAt: t.Expires.Unix()}
	if p := t.Principal; p.DeviceScoped() {
		number := int32(p.DeviceNumber)
		out.DeviceID, out.DeviceNumber = &p.Device, &number
	}
	return out
}
