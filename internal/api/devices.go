package api

import (
	"context"

	"github.com/obscura-relay/obscura/gen/api"
	"github.com/obscura-relay/obscura/internal/core/device"
	"github.com/obscura-relay/obscura/internal/core/keys"
)

// CreateDevice registers a device with its keys.
func (s *server) CreateDevice(ctx context.Context, r api.CreateDeviceRequestObject) (api.CreateDeviceResponseObject,
	error) {
	body := r.Body
	tokens, err := s.cfg.Devices.Create(ctx, principal(ctx), body.Name, keys.Publication{
		Identity: body.IdentityKey, RegistrationID: body.RegistrationID,
		Signed: &keys.SignedPreKey{ID: body.SignedPreKey.KeyID, Public: body.SignedPreKey.PublicKey,
			Signature: body.SignedPreKey.Signature},
		LastResort: kyberKey(body.LastResortKyberPreKey), EC: ecKeys(body.OneTimePreKeys),
		Kyber: kyberKeys(body.KyberPreKeys)})
	if err != nil {
		return nil, err
	}
	return api.CreateDevice201JSONResponse{Body: authResponse(tokens)}, nil
}

// ListDevices lists the user's devices.
func (s *server) ListDevices(ctx context.Context, _ api.ListDevicesRequestObject) (api.ListDevicesResponseObject,
	error) {
	devices, err := s.cfg.Devices.List(ctx, principal(ctx).User)
	if err != nil {
		return nil, err
	}
	out := api.DeviceList{Devices: []api.Device{}}
	for _, d := range devices {
		out.Devices = append(out.Devices, deviceResponse(d))
	}
	return api.ListDevices200JSONResponse{Body: out}, nil
}

// ListDevicesOfUser lists what anybody may know of another user's devices.
func (s *server) ListDevicesOfUser(ctx context.Context,
	r api.ListDevicesOfUserRequestObject) (api.ListDevicesOfUserResponseObject, error) {
	version, devices, err := s.cfg.Devices.Public(ctx, r.UserID)
	if err != nil {
		return nil, err
	}
	out := api.UserDevices{DevicesVersion: version, Devices: make([]api.UserDevice, len(devices))}
	for i, d := range devices {
		out.Devices[i] = api.UserDevice{DeviceID: d.ID, DeviceNumber: int32(d.Number), RegistrationID: d.RegistrationID,
			IdentityKey: d.Identity}
	}
	return api.ListDevicesOfUser200JSONResponse{Body: out}, nil
}

// GetDevice returns one device.
func (s *server) GetDevice(ctx context.Context, r api.GetDeviceRequestObject) (api.GetDeviceResponseObject, error) {
	d, err := s.cfg.Devices.Get(ctx, principal(ctx).User, r.DeviceID)
	if err != nil {
		return nil, err
	}
	return api.GetDevice200JSONResponse{Body: deviceResponse(d)}, nil
}

// UpdateDevice renames a device.
func (s *server) UpdateDevice(ctx context.Context, r api.UpdateDeviceRequestObject) (api.UpdateDeviceResponseObject,
	error) {
	d, err := s.cfg.Devices.Rename(ctx, principal(ctx), r.DeviceID, r.Body.Name)
	if err != nil {
		return nil, err
	}
	return api.UpdateDevice200JSONResponse{Body: deviceResponse(d)}, nil
}

// DeleteDevice removes a device.
func (s *server) DeleteDevice(ctx context.Context, r api.DeleteDeviceRequestObject) (api.DeleteDeviceResponseObject,
	error) {
	return api.DeleteDevice200Response{}, s.cfg.Devices.Delete(ctx, principal(ctx), r.DeviceID)
}

func deviceResponse(d device.Device) api.Device {
	return api.Device{DeviceID: d.ID, DeviceNumber: int32(d.Number), Name: d.Name, CreatedAt: d.CreatedAt}
}
