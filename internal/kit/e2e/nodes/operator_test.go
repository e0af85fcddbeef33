package nodes_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/internal/admin"
	"github.com/obscura-relay/obscura/internal/core/account"
	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
	"github.com/obscura-relay/obscura/internal/kit/testdb"
	"github.com/obscura-relay/obscura/internal/kit/wait"
)

// onTwoNodes is a user with two devices, which have a socket each, on two nodes.
func onTwoNodes(t *testing.T) (one, two *relaytest.Relay, devices []*relaytest.Device, sockets []*relaytest.Socket) {
	t.Helper()
	url := testdb.NewURL(t)
	one, two = relaytest.StartOn(t, url, e2e.SlowPoll), relaytest.StartOn(t, url, e2e.SlowPoll)
	user := one.Register(t)
	devices = []*relaytest.Device{user.NewDevice(t), user.NewDevice(t).On(two)}
	for i, node := range []*relaytest.Relay{one, two} {
		wait.Eventually(t, "the node remembers the tokens", func() bool {
			return e2e.Works(t, node, devices[0].Token) && e2e.Works(t, node, devices[1].Token)
		})
		sockets = append(sockets, devices[i].Connect(t))
		sockets[i].Drain()
	}
	return one, two, devices, sockets
}

// closesAs waits for the end of a socket that something has closed.
func closesAs(t *testing.T, what string, socket *relaytest.Socket, since time.Time) {
	t.Helper()
	if code := socket.CloseCode(); code != 4401 || time.Since(since) > socketEnds {
		t.Errorf("%s: a socket ended with %d after %v", what, code, time.Since(since))
	}
}

func TestWhatTheOperatorEndsHasEndedOnAllNodes(t *testing.T) {
	t.Parallel()
	for name, command := range map[string]func(string) admin.Command{
		"sessions end":         func(user string) admin.Command { return admin.EndSessions{User: user} },
		"sessions end all":     func(string) admin.Command { return admin.EndSessions{Everybody: true} },
		"users reset-password": func(user string) admin.Command { return admin.ResetPassword{OfUser: admin.OfUser{User: user}} },
		"users delete":         func(user string) admin.Command { return admin.DeleteUser{OfUser: admin.OfUser{User: user}} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			one, two, devices, sockets := onTwoNodes(t)
			user := devices[0].User
			for range account.FreeGuesses + 1 { // a guesser; the password is not what helps then
				e2e.LogIn(user.Name, "not the right password").To(t, one)
			}
			printed := e2e.Administer(t, one, command(user.Name))
			ended := time.Now()
			for _, socket := range sockets {
				closesAs(t, name, socket, ended)
			}
			why := map[string]string{"users reset-password": "password_changed"}[name]
			if why == "" {
				why = "invalid_refresh_token"
			}
			for _, node := range []*relaytest.Relay{one, two} {
				for _, device := range devices {
					e2e.EndsWithinASecond(t, node, device.Token, ended)
					e2e.Refresh(device.Refresh).To(t, node).Want(t, 401, why)
				}
			}
			left := e2e.Count(t, e2e.Database(t, one), "SELECT count(*) FROM wrong_passwords")
			endsSessions := strings.HasPrefix(name, "sessions end")
			if !endsSessions && left != 0 {
				t.Errorf("%d rows of wrong passwords are left", left)
			}
			switch {
			case endsSessions:
				if left == 0 {
					t.Error("the guesses were not counted")
				}
				e2e.LogIn(user.Name, relaytest.Password).To(t, two).Want(t, 429, "too_many_wrong_passwords")
				e2e.Administer(t, one, admin.ForgetWrongPasswords{OfUser: admin.OfUser{User: user.Name}})
				e2e.LogIn(user.Name, relaytest.Password).To(t, two).Want(t, 200, "")
			case name == "users reset-password":
				e2e.LogIn(user.Name, relaytest.Password).To(t, two).Want(t, 401, "wrong_credentials")
				session := e2e.LogIn(user.Name, printed).To(t, two).Want(t, 200, "")
				e2e.Ask{Method: "PUT", Path: "/v1/account/password", Token: session.Member(t, "token"),
					Body: e2e.Object("currentPassword", printed, "newPassword", relaytest.Password)}.To(t, two).Want(t, 200, "")
			default:
				e2e.LogIn(user.Name, relaytest.Password).To(t, two).Want(t, 401, "wrong_credentials")
				e2e.Register(user.Name, relaytest.Password).To(t, two).Want(t, 201, "")
				for _, table := range []string{"devices", "mailboxes", "sessions", "pre_key_stocks", "ec_pre_keys"} {
					if n := e2e.Count(t, e2e.Database(t, one), "SELECT count(*) FROM "+table+
						" WHERE to_jsonb("+table+") ->> 'device_id' = ANY($1) OR to_jsonb("+table+") ->> 'id' = ANY($1)",
						[]string{devices[0].ID.String(), devices[1].ID.String()}); n > 0 {
						t.Errorf("%s has %d rows of a deleted user", table, n)
					}
				}
			}
		})
	}
}

func TestADeviceThatTheOperatorRemovesIsGoneOnAllNodes(t *testing.T) {
	t.Parallel()
	one, two, devices, sockets := onTwoNodes(t)
	sender := one.Register(t).NewDevice(t)
	e2e.Administer(t, one, admin.RemoveDevice{OfUser: admin.OfUser{User: devices[1].User.Name},
		Device: devices[1].ID.String()})
	ended := time.Now()
	closesAs(t, "devices remove", sockets[1], ended)
	e2e.EndsWithinASecond(t, one, devices[1].Token, ended)
	e2e.EndsWithinASecond(t, two, devices[1].Token, ended)
	if failed := sender.Send(t, nil, relaytest.To(devices[1].ID, "late"), relaytest.To(devices[0].ID, "in time")); len(failed) != 1 {
		t.Errorf("%d failures, one device is gone", len(failed))
	}
	sockets[0].Envelopes(1)
}

func TestTokensOfReplacedKeysStopWithinASecond(t *testing.T) {
	t.Parallel()
	one, two, devices, sockets := onTwoNodes(t)
	e2e.Administer(t, one, admin.RotateTokens{})
	ended := time.Now()
	for i, node := range []*relaytest.Relay{one, two} {
		for _, device := range devices {
			e2e.EndsWithinASecond(t, node, device.Token, ended)
		}
		pair := e2e.Refresh(devices[i].Refresh).To(t, node).Want(t, 200, "")
		for _, other := range []*relaytest.Relay{one, two} {
			wait.Eventually(t, "the new token works everywhere", func() bool {
				return e2e.Works(t, other, pair.Member(t, "token"))
			})
		}
	}
	sender := one.Register(t).NewDevice(t)
	sender.Send(t, nil, relaytest.To(devices[0].ID, "one"), relaytest.To(devices[1].ID, "two"))
	for _, socket := range sockets { // they have not ended
		socket.Envelopes(1)
	}
}

// slowly begins an upload of an attachment; what end says comes back.
func slowly(t *testing.T, relay *relaytest.Relay, token string) (end func() e2e.Reply) {
	t.Helper()
	const size = 64 << 10
	body, rest := io.Pipe()
	t.Cleanup(func() { _ = rest.Close() })
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, relay.API+"/v1/attachments", body)
	if err != nil {
		t.Fatal(err)
	}
	request.ContentLength = size
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("Content-Type", "application/octet-stream")
	answered := make(chan *http.Response, 1)
	go func() {
		response, err := relay.HTTP().Do(request) //nolint:bodyclose // ReadReply does
		if err != nil {
			t.Error(err)
		}
		answered <- response
	}()
	if _, err := rest.Write(make([]byte, size/2)); err != nil {
		t.Fatal(err)
	}
	db := e2e.Database(t, relay)
	wait.Eventually(t, "the upload has begun", func() bool {
		return e2e.Count(t, db, "SELECT count(*) FROM attachments") == 1
	})
	return func() e2e.Reply {
		if _, err := rest.Write(make([]byte, size/2)); err != nil {
			t.Fatal(err)
		}
		_ = rest.Close()
		return e2e.ReadReply(t, <-answered)
	}
}

func TestADisabledUserIsOutOnAllNodesUntilEnabled(t *testing.T) {
	t.Parallel()
	one, two, devices, sockets := onTwoNodes(t)
	user, friend := devices[0].User, one.Register(t).NewDevice(t)
	delivery := devices[0].NewDeliveryToken(t)
	ticket := e2e.Ticket(t, devices[1])
	upload := slowly(t, two, devices[1].Token)
	e2e.Administer(t, one, admin.DisableUser{OfUser: admin.OfUser{User: user.Name}})
	ended := time.Now()
	for _, socket := range sockets {
		closesAs(t, "users disable", socket, ended)
	}
	upload().Want(t, 401, "unauthorized")
	if n := e2e.Count(t, e2e.Database(t, one), "SELECT count(*) FROM attachments"); n != 0 {
		t.Error("the upload of a disabled user is stored")
	}
	if _, status := two.Dial(t, "?ticket="+ticket, nil); status != 401 {
		t.Errorf("a ticket got %d", status)
	}
	for _, node := range []*relaytest.Relay{one, two} {
		for _, device := range devices {
			e2e.EndsWithinASecond(t, node, device.Token, ended)
			if status, _ := device.On(node).TrySend(t, nil, relaytest.To(friend.ID, "no")); status != 401 {
				t.Errorf("a send got %d", status)
			}
			e2e.Refresh(device.Refresh).To(t, node).Want(t, 401, "invalid_refresh_token")
		}
		e2e.LogIn(user.Name, relaytest.Password).To(t, node).Want(t, 403, "account_disabled")
		wrong := e2e.LogIn(user.Name, "some other password").To(t, node).Want(t, 401, "wrong_credentials")
		nobody := e2e.LogIn("nobody_at_all", "some other password").To(t, node).Want(t, 401, "wrong_credentials")
		if string(wrong.Body) != string(nobody.Body) {
			t.Errorf("a stranger is told %s, of nobody %s", wrong.Body, nobody.Body)
		}
		e2e.Register(user.Name, relaytest.Password).To(t, node).Want(t, 409, "username_taken")
	}
	// Others notice nothing.
	if failed := friend.Send(t, nil, relaytest.To(devices[0].ID, "named")); len(failed) > 0 {
		t.Error(failed)
	}
	if failed := two.SendSealed(t, uuid.New(), relaytest.Sealed(devices[0].ID, "sealed", delivery)); len(failed) > 0 {
		t.Error(failed)
	}
	if bundles := e2e.FetchBundles(t, friend, user.ID); len(bundles) != 2 {
		t.Errorf("%d bundles of two devices", len(bundles))
	}
	for _, node := range []*relaytest.Relay{one, two} {
		for _, secret := range []string{user.Name, user.ID.String(), devices[0].ID.String()} {
			if strings.Contains(node.Log.String(), secret) {
				t.Errorf("the log has %s", secret)
			}
		}
	}

	e2e.Administer(t, one, admin.EnableUser{OfUser: admin.OfUser{User: user.ID.String()}})
	back := e2e.LogInOnDevice(t, two, devices[0])
	if got := e2e.Texts(back.Connect(t).Envelopes(2)); !strings.Contains(got, "named") ||
		!strings.Contains(got, "sealed") {
		t.Errorf("after the return: %s", got)
	}
}
