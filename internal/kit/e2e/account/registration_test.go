package account_test

import (
	"encoding/json"
	"testing"

	"github.com/obscura-relay/obscura/gen/api"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

func TestInfoTellsWhatFitsWithoutAToken(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	var info api.Info
	got := e2e.Ask{Method: "GET", Path: "/v1/info"}.To(t, relay).Want(t, 200, "")
	if err := json.Unmarshal(got.Body, &info); err != nil {
		t.Fatal(err)
	}
	spec, err := api.GetSpec()
	if err != nil {
		t.Fatal(err)
	}
	if info.Registration != api.RegistrationOpen || info.APIVersion != spec.Info.Version {
		t.Errorf("registration %s, version %s", info.Registration, info.APIVersion)
	}
	for name, ours := range map[string][2]int64{
		"message":    {int64(info.Limits.MessageBytes), core.MaxMessage},
		"envelope":   {int64(info.Limits.EnvelopeSeconds), int64(core.EnvelopeLifetime.Seconds())},
		"attachment": {int64(info.Limits.AttachmentSeconds), int64(core.AttachmentLifetime.Seconds())},
		"devices":    {int64(info.Limits.Devices), core.MaxDevices},
	} {
		if ours[0] != ours[1] {
			t.Errorf("%s: %d, the relay's own limit is %d", name, ours[0], ours[1])
		}
	}
}
