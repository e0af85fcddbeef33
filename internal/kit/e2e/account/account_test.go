package account_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

func TestAUsernameIsThreeToFiftyPlainCharacters(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	for name, fine := range map[string]bool{
		"abc": true, "A_9": true, "___": true, "007": true, strings.Repeat("x", 50): true,
		"": false, "ab": false, strings.Repeat("y", 51): false, "a b": false, "a-b": false, "a.b": false, "äöü": false,
		"abc\n": false, "\nabc": false, "abc\u0000": false, "a\u200bb": false, "ａｂｃ": false, "ſ_ſ_ſ": false,
		"a'--": false,
	} {
		want, code := 201, ""
		if !fine {
			want, code = 400, "invalid_request"
		}
		if got := e2e.Register(name, relaytest.Password).To(t, relay); got.Status != want || got.Code != code {
			t.Errorf("%q: status %d, code %q; want %d", name, got.Status, got.Code, want)
		}
	}
}

func TestAUsernameIsUniqueWithoutRegardToCase(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	e2e.Register("Alice_Z", relaytest.Password).To(t, relay).Want(t, 201, "")
	for _, name := range []string{"Alice_Z", "alice_z", "ALICE_Z", "aLICE_z"} {
		e2e.Register(name, "another good password").To(t, relay).Want(t, 409, "username_taken")
		got := e2e.LogIn(name, relaytest.Password).To(t, relay).Want(t, 200, "")
		account := e2e.Ask{Method: "GET", Path: "/v1/account", Token: got.Member(t, "token")}.To(t, relay)
		if account.Member(t, "username") != "Alice_Z" {
			t.Errorf("the name is not kept as it was registered: %s", account.Body)
		}
	}

	// Of ten at once in different case, one gets the name.
	replies := make(chan e2e.Reply)
	for i := range 10 {
		go func() {
			name := []byte("simultaneous")
			name[i] -= 'a' - 'A'
			replies <- e2e.Register(string(name), relaytest.Password).To(t, relay)
		}()
	}
	created := 0
	for range 10 {
		if got := <-replies; got.Status == 201 {
			created++
		} else {
			got.Want(t, 409, "username_taken")
		}
	}
	if created != 1 {
		t.Errorf("%d got the name", created)
	}
}

func TestAPasswordIsTwelveToTwoHundredFiftySixCharacters(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	user := relay.Register(t)
	for i, c := range []struct {
		password string
		fine     bool
	}{
		{strings.Repeat("x", 11), false}, {strings.Repeat("x", 12), true}, {strings.Repeat("x", 256), true},
		{strings.Repeat("x", 257), false},
		{strings.Repeat("é", 11), false}, {strings.Repeat("é", 12), true}, {strings.Repeat("é", 256), true},
		{strings.Repeat("é", 257), false},
		{strings.Repeat("😀", 11), false}, {strings.Repeat("😀", 12), true}, {strings.Repeat("😀", 256), true},
		{strings.Repeat("😀", 257), false},
		{"", false}, {strings.Repeat(" ", 12), true},
	} {
		name := "p_" + strings.Repeat("i", i+1)
		change := e2e.Ask{Method: "PUT", Path: "/v1/account/password", Token: user.Token,
			Body: e2e.Object("currentPassword", "not the right one", "newPassword", c.password)}
		if !c.fine {
			e2e.Register(name, c.password).To(t, relay).Want(t, 400, "invalid_request")
			change.To(t, relay).Want(t, 400, "invalid_request")
			continue
		}
		e2e.Register(name, c.password).To(t, relay).Want(t, 201, "")
		e2e.LogIn(name, c.password).To(t, relay).Want(t, 200, "")
		runes := []rune(c.password)
		e2e.LogIn(name, string(runes[:len(runes)-1])+"?").To(t, relay).Want(t, 401, "wrong_credentials")
		change.To(t, relay).Want(t, 401, "wrong_credentials")
	}
	// A password that nobody can have is wrong like any other, up to the longest.
	for _, password := range []string{"", "short", strings.Repeat("x", 256)} {
		e2e.LogIn(user.Name, password).To(t, relay).Want(t, 401, "wrong_credentials")
	}
	e2e.LogIn(user.Name, strings.Repeat("x", 257)).To(t, relay).Want(t, 400, "invalid_request")
}

func TestPasswordsTokensAndTicketsAreKeptHashed(t *testing.T) {
	t.Parallel()
	relay := startInEarnest(t)
	device := relay.Register(t).NewDevice(t)
	ticket, err := device.CreateGatewayTicketWithResponse(t.Context())
	if err != nil || ticket.JSON201 == nil {
		t.Fatal(err)
	}
	db := e2e.Database(t, relay)
	var hash string
	if err := db.QueryRow(t.Context(), "SELECT password_hash FROM users").Scan(&hash); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(hash, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Errorf("the hash is %q", hash)
	}
	for _, table := range []string{"users", "sessions", "refresh_tokens", "gateway_tickets", "devices"} {
		var rows string
		err := db.QueryRow(t.Context(), "SELECT coalesce(string_agg(r::text, ' '), '') FROM "+table+" r").Scan(&rows)
		if err != nil || rows == "" {
			t.Fatalf("%s: %v", table, err)
		}
		_, secret, _ := strings.Cut(device.Refresh, ".")
		for _, s := range []string{relaytest.Password, device.Token, device.Refresh, secret, ticket.JSON201.Ticket} {
			if strings.Contains(rows, s) {
				t.Errorf("%s holds a secret as it is", table)
			}
		}
	}
}

func TestTheExportHoldsEverythingThatIsKept(t *testing.T) {
	t.Parallel()
	relay := startInEarnest(t)
	user := relay.Register(t)
	first, second, gone := user.NewDevice(t), user.NewDevice(t), user.NewDevice(t)
	sender := relay.Register(t).NewDevice(t)
	gone.Send(t, nil, relaytest.To(sender.ID, "remember me"))
	if _, err := first.DeleteDeviceWithResponse(t.Context(), gone.ID); err != nil {
		t.Fatal(err)
	}
	sender.Send(t, nil, relaytest.To(second.ID, "12345"), relaytest.To(second.ID, "678"))
	for _, token := range []string{user.Token, first.Token} { // user-scoped, device-scoped
		got, err := relay.Client(token).GetAccountWithResponse(t.Context())
		if err != nil || got.JSON200 == nil {
			t.Fatalf("%v, %s", err, got.Body)
		}
		account := got.JSON200
		if account.UserID != user.ID || account.Username != user.Name ||
			account.PasswordHash != "argon2id v=19 m=19456 t=2 p=1" ||
			time.Since(account.CreatedAt) > time.Minute {
			t.Errorf("account: %+v", account)
		}
		if len(account.RestingDeviceNumbers) != 1 || account.RestingDeviceNumbers[0] != gone.Number {
			t.Errorf("resting numbers: %v", account.RestingDeviceNumbers)
		}
		sessions := map[uuid.UUID]bool{}
		for _, s := range account.Sessions {
			if days := s.ExpiresAt.Sub(s.CreatedAt).Hours() / 24; days < 29.9 || days > 30.1 {
				t.Errorf("a session of %.1f days", days)
			}
			if s.DeviceID == nil {
				sessions[uuid.Nil] = true
			} else {
				sessions[*s.DeviceID] = true
			}
		}
		if len(account.Sessions) != 3 || !sessions[uuid.Nil] || !sessions[first.ID] || !sessions[second.ID] {
			t.Errorf("sessions: %+v", account.Sessions)
		}
		if len(account.Devices) != 2 || account.Devices[0].Device.DeviceID != first.ID ||
			account.Devices[1].Device.DeviceID != second.ID {
			t.Fatalf("devices: %+v", account.Devices)
		}
		if box := account.Devices[1].Mailbox; box.Accepted != 2 || box.Acknowledged != 0 || box.Pending != 2 ||
			box.PendingBytes != 8 || len(box.Gaps) != 0 {
			t.Errorf("mailbox: %+v", box)
		}
		if keys := account.Devices[0].Keys; keys.OneTimePreKeyCount != 5 || keys.KyberPreKeyCount != 2 ||
			string(keys.IdentityKey) != string(first.Identity.Public) ||
			int(keys.RegistrationID) != first.RegistrationID {
			t.Errorf("keys: %+v", keys)
		}
	}
}
