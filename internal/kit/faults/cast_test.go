package faults_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

// device is one device of the cast, with what it needs to act by itself on any node.
type device struct {
	id, user uuid.UUID
	name     string // of the user
	account  *relaytest.User
	http     *http.Client
	token    atomic.Pointer[string]
	// deleted is when the deletion was about to be asked for, erased when the relay had said that
	// it is done.
	deleted, erased atomic.Pointer[time.Time]
}

// answer is what a device got for a request. Without a status there was a broken connection, or
// silence.
type answer struct {
	status  int
	header  http.Header
	body    []byte
	silence bool
}

// call makes a request as the device.
func (d *device) call(ctx context.Context, method, url, contentType string, body []byte, key *uuid.UUID) answer {
	request, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return answer{}
	}
	request.Header.Set("Authorization", "Bearer "+*d.token.Load())
	request.Header.Set("Content-Type", contentType)
	if key != nil {
		request.Header.Set("Idempotency-Key", key.String())
	}
	response, err := d.http.Do(request)
	if err != nil {
		var network net.Error
		return answer{silence: errors.As(err, &network) && network.Timeout() && ctx.Err() == nil}
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		return answer{}
	}
	return answer{status: response.StatusCode, header: response.Header, body: content}
}

// login gets a new token for the device, since the old one is no longer taken. It reports false
// when the relay says that the device is gone.
func (d *device) login(ctx context.Context, base string) (there bool) {
	body, err := json.Marshal(map[string]any{"username": d.name, "password": relaytest.Password, "deviceId": d.id})
	if err != nil {
		panic(err)
	}
	got := d.call(ctx, http.MethodPost, base+"/v1/sessions", "application/json", body, nil)
	if got.status != http.StatusOK {
		return true // later
	}
	var session struct {
		Token    string
		DeviceID *uuid.UUID
	}
	if err := json.Unmarshal(got.body, &session); err != nil || session.DeviceID == nil {
		return err != nil
	}
	d.token.Store(&session.Token)
	return true
}

// newDevices registers devices: five each with one user.
func newDevices(t testing.TB, base string, client *http.Client, n int) []*device {
	t.Helper()
	relay := relaytest.At(t, base)
	var owner *relaytest.User
	devices := make([]*device, n)
	for i := range devices {
		if i%5 == 0 {
			owner = relay.Register(t)
		}
		d := owner.NewDevice(t)
		devices[i] = &device{id: d.ID, user: owner.ID, name: owner.Name, account: owner, http: client}
		devices[i].token.Store(&d.Token)
	}
	return devices
}
