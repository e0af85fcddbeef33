package obscura_test

import (
	"encoding/json"
	"errors"
	"slices"
	"testing"

	"github.com/google/uuid"

	obscura "github.com/obscura-relay/obscura/clients/go"
	"github.com/obscura-relay/obscura/gen/obscurapb"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

func TestOneBodyForMany(t *testing.T) {
	t.Parallel()
	relay, _ := join(t, relaytest.Start(t), obscura.Options{})
	alice, bob, carol := newDevice(t, relay), newDevice(t, relay), newDevice(t, relay)
	nobody := obscura.SharedRecipient{ID: uuid.New(), DeviceID: uuid.New()}
	batch := obscura.NewBatch(obscura.Submission{DeviceID: bob.DeviceID(), Message: []byte("first")})
	batch.Shared = []obscura.SharedSubmission{
		obscura.NewShared([]byte(", all"),
			obscura.SharedRecipient{DeviceID: bob.DeviceID(), Prefix: []byte("Bob")},
			nobody, obscura.SharedRecipient{DeviceID: carol.DeviceID(), Prefix: []byte("Carol")}),
		obscura.NewShared([]byte("bye"), obscura.SharedRecipient{DeviceID: bob.DeviceID()}),
	}
	stored, err := json.Marshal(batch)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second is the stored one after a restart
		failed, err := alice.Send(t.Context(), batch)
		if err != nil || len(failed) != 1 || failed[0].ID != nobody.ID ||
			failed[0].Code != obscurapb.ErrorCode_ERROR_CODE_INVALID_DEVICE {
			t.Fatalf("failed: %+v, %v", failed, err)
		}
		batch = obscura.Batch{}
		if err := json.Unmarshal(stored, &batch); err != nil {
			t.Fatal(err)
		}
	}
	if got := inbox(t, bob); !slices.Equal(got, []string{"first", "Bob, all", "bye"}) {
		t.Errorf("Bob received %q", got)
	}
	if got := inbox(t, carol); !slices.Equal(got, []string{"Carol, all"}) {
		t.Errorf("Carol received %q", got)
	}
}

func TestLimitsOfOneBodyForMany(t *testing.T) {
	t.Parallel()
	relay, _ := join(t, relaytest.Start(t), obscura.Options{})
	alice := newDevice(t, relay)
	for code, shared := range map[string]obscura.SharedSubmission{
		"prefix_too_large":    obscura.NewShared([]byte("x"), obscura.SharedRecipient{Prefix: make([]byte, 257)}),
		"too_many_recipients": obscura.NewShared([]byte("x"), make([]obscura.SharedRecipient, 1001)...),
		"expanded_too_large":  obscura.NewShared(make([]byte, 5<<10), make([]obscura.SharedRecipient, 1000)...),
	} {
		batch := obscura.NewBatch()
		batch.Shared = []obscura.SharedSubmission{shared}
		var e *obscura.Error
		if _, err := alice.Send(t.Context(), batch); !errors.As(err, &e) || e.Code != code {
			t.Errorf("%s: %v", code, err)
		}
	}
}
