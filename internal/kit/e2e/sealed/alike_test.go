package sealed_test

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/obscura-relay/obscura/gen/obscurapb"
	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
	"github.com/obscura-relay/obscura/internal/kit/testdb"
	"github.com/obscura-relay/obscura/internal/kit/wait"
	"github.com/obscura-relay/obscura/internal/storage"
)

// statements hears the statements that a relay sends to its database.
type statements struct {
	mu   sync.Mutex
	text strings.Builder // guarded by mu
}

func (s *statements) hear(part []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text.Write(part)
}

var (
	named      = regexp.MustCompile(`-- name: (\w+) `)
	background = []string{"AdmitSession", "Ping", "Notify", "NotifyProbe", "MailboxHeads", "TryLock", "PushTokensAfter", "TakeWakeups",
		"LeasedWakeups", "SigningKeys", "LockSigningKeys", "DeleteSigningKeysBefore", "LeaseTrash", "WaitingTrash"}
)

// of returns the names of the statements while do runs.
func (s *statements) of(do func()) (names []string) {
	s.mu.Lock()
	s.text.Reset()
	s.mu.Unlock()
	do()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range named.FindAllStringSubmatch(s.text.String(), -1) {
		if !slices.Contains(background, m[1]) {
			names = append(names, m[1])
		}
	}
	return names
}

// sql is the text of a statement, as it was heard first.
func (s *statements) sql(t *testing.T, name string) string {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	_, text, found := strings.Cut(s.text.String(), "-- name: "+name+" ")
	text, _, ended := strings.Cut(text, "\x00")
	if _, text, _ = strings.Cut(text, "\n"); !found || !ended {
		t.Fatalf("the statement %s was not heard", name)
	}
	return text
}

// lookups are how often a statement looks into each index, as a pool of the relay plans it.
func lookups(t *testing.T, url, sql string, args ...any) string {
	t.Helper()
	db, err := storage.Open(t.Context(), url, storage.Options{MaxConns: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var text string
	if err := db.Pool().QueryRow(t.Context(), "EXPLAIN (ANALYZE, FORMAT JSON) "+sql, args...).Scan(&text); err != nil {
		t.Fatal(err)
	}
	type plan struct {
		Index string `json:"Index Name"`
		Loops int    `json:"Actual Loops"`
		Plans []plan
	}
	var whole []struct{ Plan plan }
	if err := json.Unmarshal([]byte(text), &whole); err != nil {
		t.Fatal(err)
	}
	var found []string
	var walk func(plan)
	walk = func(p plan) {
		if p.Index != "" && p.Loops > 0 {
			found = append(found, fmt.Sprintf("%s: %d", p.Index, p.Loops))
		}
		for _, below := range p.Plans {
			walk(below)
		}
	}
	walk(whole[0].Plan)
	return strings.Join(found, ", ")
}

// What is refused costs the same statements, and each the same look-ups, whatever is wrong: nobody
// learns by the time which users, devices and tokens there are.
func TestARefusalLooksUpTheSame(t *testing.T) {
	t.Parallel()
	heard := &statements{}
	relay := relaytest.Start(t)
	bob, carol := relay.Register(t).NewDevice(t), relay.Register(t).NewDevice(t)
	good, carols, removed := bob.NewDeliveryToken(t), carol.NewDeliveryToken(t), bob.NewDeliveryToken(t)
	bob.RemoveDeliveryToken(t, removed)
	proxy := testdb.NewProxy(t, relay.DatabaseURL)
	proxy.Hear(heard.hear)
	// Every statement is described anew each time it is run: its text travels each time, and once.
	watched := relaytest.StartOn(t, proxy.URL+"&default_query_exec_mode=describe_exec", e2e.SlowPoll)
	wait.Eventually(t, "the relay has started, and is quiet", func() bool {
		return len(heard.of(func() { <-time.After(500 * time.Millisecond) })) == 0
	})
	sends := map[string]*obscurapb.Submission{
		"a wrong token":                    relaytest.Sealed(bob.ID, "x", relaytest.DeliveryToken()),
		"another user's token":             relaytest.Sealed(bob.ID, "x", carols),
		"a removed token":                  relaytest.Sealed(bob.ID, "x", removed),
		"an unknown device":                relaytest.Sealed(uuid.New(), "x", good),
		"an unknown device, a wrong token": relaytest.Sealed(uuid.New(), "x", relaytest.DeliveryToken()),
	}
	var want []string
	for what, submission := range sends {
		got := heard.of(func() {
			if failed := watched.SendSealed(t, uuid.New(), submission); len(failed) != 1 {
				t.Errorf("%s: %v", what, failed)
			}
		})
		if want == nil {
			want = got
		}
		if !slices.Contains(got, "OpenedDevices") || !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
		hash := sha256.Sum256(submission.GetDeliveryToken())
		if n := lookups(t, relay.DatabaseURL, heard.sql(t, "OpenedDevices"), [][]byte{hash[:]},
			[]uuid.UUID{uuid.UUID(submission.GetDeviceId())}); n != "devices_pkey: 1, delivery_tokens_pkey: 1" {
			t.Errorf("%s is looked up by %s", what, n)
		}
	}
	opened := heard.of(func() { watched.SendSealed(t, uuid.New(), relaytest.Sealed(bob.ID, "x", good)) })
	if slices.Equal(opened, want) {
		t.Errorf("a good one looks up the same, %v: the comparison sees nothing", opened)
	}
	for what, f := range map[string]struct {
		user  uuid.UUID
		token []byte
	}{"another user": {carol.User.ID, good}, "nobody": {uuid.New(), good}, "a removed token": {bob.User.ID, removed},
		"a wrong token": {bob.User.ID, relaytest.DeliveryToken()}} {
		for _, rest := range []string{"", "/devices"} {
			got := heard.of(func() {
				unnamedFetch(t, watched, "/v1/users/"+f.user.String()+rest, f.token).Want(t, 401, "unauthorized")
			})
			if !slices.Equal(got, []string{"OpensUser"}) {
				t.Errorf("%s: %v", what, got)
			}
			hash := sha256.Sum256(f.token)
			n := lookups(t, relay.DatabaseURL, heard.sql(t, "OpensUser"), hash[:], f.user)
			if n != "delivery_tokens_pkey: 1" {
				t.Errorf("%s is looked up by %s", what, n)
			}
		}
	}
	// An audience that no token opens: its devices are not looked up. The key is the same, since it
	// decides in which bucket the receipt is looked for.
	key := uuid.New()
	want = nil
	for what, user := range map[string]uuid.UUID{"another user": carol.User.ID, "nobody": uuid.New(), "his": bob.User.ID} {
		request := &obscurapb.SendMessageRequest{Audiences: []*obscurapb.Audience{{UserId: user[:], DevicesVersion: 7}},
			Messages: []*obscurapb.Submission{relaytest.Sealed(bob.ID, "x", good)}}
		got := heard.of(func() {
			if status, answer := watched.TrySealed(t, key, request); status != 200 || len(answer) == 0 {
				t.Errorf("%d %s", status, answer)
			}
		})
		if what == "his" {
			if !slices.Contains(got, "PublicDevices") {
				t.Errorf("his own devices are not looked up: %v", got)
			}
			continue
		}
		if want == nil {
			want = got
		}
		if slices.Contains(got, "PublicDevices") || !slices.Equal(got, want) {
			t.Errorf("an audience, %s: %v, want %v", what, got, want)
		}
	}
}

// A token that was removed while its batch waited for the locks of mailboxes does not open them any
// more. Where there are several buckets the batch is sent back, and its repetition is refused.
func TestATokenRemovedWhileMailboxesAreLockedOpensNothing(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	bob := relay.Register(t).NewDevice(t)
	token := bob.NewDeliveryToken(t)
	db := e2e.Database(t, relay)
	tx, err := db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "SELECT FROM mailboxes WHERE device_id = $1 FOR UPDATE", bob.ID); err != nil {
		t.Fatal(err)
	}
	status, answer := make(chan int, 1), make(chan []byte, 1)
	key, request := uuid.New(), &obscurapb.SendMessageRequest{
		Messages: []*obscurapb.Submission{relaytest.Sealed(bob.ID, "late", token)}}
	go func() {
		code, body := relay.TrySealed(t, key, request)
		status <- code
		answer <- body
	}()
	testdb.AwaitWaiting(t, db, 1)
	bob.RemoveDeliveryToken(t, token)
	<-time.After(600 * time.Millisecond) // longer than a look-up is good for
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	code, body := <-status, <-answer
	if e2e.Count(t, db, "SELECT count(*) FROM buckets") > 1 {
		if code != 503 {
			t.Errorf("it is answered %d, want 503", code)
		}
		code, body = relay.TrySealed(t, key, request)
	}
	var response obscurapb.SendMessageResponse
	if err := proto.Unmarshal(body, &response); code != 200 || err != nil ||
		len(response.GetFailedSubmissions()) != 1 ||
		response.GetFailedSubmissions()[0].GetErrorCode() != obscurapb.ErrorCode_ERROR_CODE_REFUSED {
		t.Errorf("failed: %d %v %v", code, response.GetFailedSubmissions(), err)
	}
	if n := e2e.Count(t, db, "SELECT count(*) FROM messages"); n != 0 {
		t.Errorf("%d envelopes are stored", n)
	}
}
