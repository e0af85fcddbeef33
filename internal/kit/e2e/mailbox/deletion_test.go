package mailbox_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/obscura-relay/obscura/gen/client"
	"github.com/obscura-relay/obscura/gen/obscurapb"
	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

func TestDeletingASenderKeepsWhatOthersHaveNotRead(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	aliceUser := relay.Register(t)
	phone, tablet, bob := aliceUser.NewDevice(t), aliceUser.NewDevice(t), relay.Register(t).NewDevice(t)
	phone.Send(t, nil, relaytest.To(bob.ID, "from the phone"))
	if got, err := aliceUser.DeleteDeviceWithResponse(t.Context(), phone.ID); err != nil ||
		got.StatusCode() != http.StatusOK {
		t.Fatalf("delete the device: %v, %v", err, got)
	}
	tablet.Send(t, nil, relaytest.To(bob.ID, "from the tablet"))
	got, err := aliceUser.DeleteAccountWithResponse(t.Context(),
		client.DeleteAccountJSONRequestBody{Password: relaytest.Password})
	if err != nil || got.StatusCode() != http.StatusOK {
		t.Fatalf("delete the account: %v, %v", err, got)
	}
	backlog, gaps, _ := bob.Connect(t).Drain()
	if e2e.Texts(backlog) != "from the phone from the tablet" || len(gaps) != 0 {
		t.Fatalf("%q, gaps %v", e2e.Texts(backlog), gaps)
	}
	if [16]byte(backlog[0].GetSenderDeviceId()) != phone.ID || [16]byte(backlog[1].GetSenderId()) != aliceUser.ID {
		t.Error("the senders are no longer named")
	}
}

func TestASubmissionToADeletedDeviceNamesNoDevice(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	alice, bobUser := relay.Register(t).NewDevice(t), relay.Register(t)
	bob := bobUser.NewDevice(t)
	alice.Send(t, nil, relaytest.To(bob.ID, "before"))
	if _, err := bobUser.DeleteDeviceWithResponse(t.Context(), bob.ID); err != nil {
		t.Fatal(err)
	}
	failed := alice.Send(t, nil, relaytest.To(bob.ID, "after"))
	if len(failed) != 1 || failed[0].GetErrorCode() != obscurapb.ErrorCode_ERROR_CODE_INVALID_DEVICE {
		t.Errorf("failed: %v", failed)
	}
	db := e2e.Database(t, relay)
	for _, table := range []string{"messages", "mailboxes", "gaps"} {
		if n := e2e.Count(t, db, "SELECT count(*) FROM "+table+" WHERE device_id = $1", bob.ID); n != 0 {
			t.Errorf("%d rows left in %s", n, table)
		}
	}
}

// Many senders write to all devices of a user while they are deleted, one by one and with the
// account: each submission is stored and goes with its device, or is refused; nothing fails,
// nothing stays.
func TestSendingToDevicesThatAreBeingDeletedNeverFails(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	senders := []*relaytest.Device{relay.Register(t).NewDevice(t), relay.Register(t).NewDevice(t),
		relay.Register(t).NewDevice(t)}
	for round := range 4 {
		user := relay.Register(t)
		var devices []*relaytest.Device
		for range 6 {
			devices = append(devices, user.NewDevice(t))
		}
		deleted := make(chan struct{})
		e2e.Together(len(senders)+1, func(i int) {
			if i == len(senders) {
				defer close(deleted)
				deleteUser(t, user, devices, round%2 == 0)
				return
			}
			for more := true; more; {
				select {
				case <-deleted:
					more = false // once more: now all are gone
				default:
				}
				var batch []*obscurapb.Submission
				for n, d := range devices {
					batch = append(batch, relaytest.To(d.ID, fmt.Sprintf("%d", n)))
				}
				start := time.Now()
				status, answer := senders[i].TrySend(t, nil, batch...)
				var response obscurapb.SendMessageResponse
				if err := proto.Unmarshal(answer, &response); status != http.StatusOK || err != nil {
					t.Errorf("status %d after %s: %s", status, time.Since(start), answer)
					return
				}
				if !more && len(response.GetFailedSubmissions()) != len(devices) {
					t.Errorf("%d refused after the deletion", len(response.GetFailedSubmissions()))
				}
				for _, f := range response.GetFailedSubmissions() {
					if f.GetErrorCode() != obscurapb.ErrorCode_ERROR_CODE_INVALID_DEVICE {
						t.Errorf("failed: %v", f)
					}
				}
			}
		})
	}
	db := e2e.Database(t, relay)
	if n := e2e.Count(t, db, "SELECT count(*) FROM messages"); n != 0 {
		t.Errorf("%d messages are left of deleted devices", n)
	}
}

func deleteUser(t *testing.T, user *relaytest.User, devices []*relaytest.Device, atOnce bool) {
	t.Helper()
	if atOnce {
		got, err := user.DeleteAccountWithResponse(t.Context(),
			client.DeleteAccountJSONRequestBody{Password: relaytest.Password})
		if err != nil || got.StatusCode() != http.StatusOK {
			t.Errorf("delete the account: %v, %v", err, got)
		}
		return
	}
	for _, d := range devices {
		got, err := user.DeleteDeviceWithResponse(t.Context(), d.ID)
		if err != nil || got.StatusCode() != http.StatusOK {
			t.Errorf("delete the device: %v, %v", err, got)
		}
	}
}
