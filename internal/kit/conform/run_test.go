package conform

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/obscura-relay/obscura/internal/app"
	"github.com/obscura-relay/obscura/internal/core"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
	"github.com/obscura-relay/obscura/internal/kit/testdb"
)

// usersOf counts the users of a relay, from inside.
func usersOf(t *testing.T, relay *relaytest.Relay) (n int) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), relay.DatabaseURL)
	if err == nil {
		err = conn.QueryRow(t.Context(), "SELECT count(*) FROM users").Scan(&n)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	return n
}

// interrupting interrupts the run at the nth request of an operation. The relay goes on with it,
// and its answer is lost.
func interrupting(where string, nth int32) func(cancel func()) func(*broken) spoil {
	return func(cancel func()) func(*broken) spoil {
		return func(*broken) spoil {
			var count atomic.Int32
			return standing(where, func(a *ask, forward func(*ask) *reply) *reply {
				if count.Add(1) != nth {
					return forward(a)
				}
				cancel()
				after(100 * time.Millisecond)
				forward(a)
				return nil
			})(nil)
		}
	}
}

func TestNothingIsLeftBehind(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		only  []string
		spoil func(cancel func()) func(*broken) spoil
		want  string
	}{
		"after a success": {[]string{"errors", "devices"}, nil, ""},
		"after failures": {[]string{"accounts", "tokens.scopes"}, func(func()) func(*broken) spoil {
			return turned("PUT /v1/account/password", http.StatusOK, "", func() *reply {
				return madeError(http.StatusInternalServerError, "internal")
			})
		}, "checks failed"},
		"when a registration is interrupted": {[]string{"accounts", "keys"}, interrupting("POST /v1/users", 5),
			"interrupted"},
		"when a change of password is interrupted": {[]string{"accounts"}, interrupting("PUT /v1/account/password", 2),
			"interrupted"},
		"when a deletion is interrupted": {[]string{"accounts"}, interrupting("DELETE /v1/account", 1),
			"interrupted"},
		"when nothing much is interrupted": {[]string{"accounts", "devices"},
			interrupting("POST /v1/devices", 3), "interrupted"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			relay := relaytest.Start(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			url := relay.API
			if c.spoil != nil {
				url = breakIt(t, relay.API, fault{make: c.spoil(cancel)})
			}
			results, err := Run(ctx, Config{URL: url, Only: c.only, Out: io.Discard})
			if results == nil || (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(),
				c.want) {
				t.Fatalf("%+v, %v", results, err)
			}
			if n := usersOf(t, relay); n != 0 {
				t.Errorf("%d users are left", n)
			}
		})
	}
}

func TestTheResultsAsJSON(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	var out bytes.Buffer
	less := breakIt(t, relay.API, fault{make: withoutBlobs})
	url := breakIt(t, less, fault{make: turned("DELETE /v1/users", http.StatusMethodNotAllowed, "", func() *reply {
		return madeError(http.StatusNotFound, "not_found")
	})})
	_, err := Run(t.Context(),
		Config{URL: url + "/", Only: []string{"errors.method", "errors.request-id", "blobs.push-token"}, JSON: "-",
			Out: &out})
	if err == nil || err.Error() != "1 of 4 checks failed: errors.method" {
		t.Error(err)
	}
	var got Results
	d := json.NewDecoder(&out)
	d.DisallowUnknownFields()
	if err := d.Decode(&got); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, o := range got.Checks {
		names = append(names, o.Name+": "+string(o.Result))
		if o.Sentence == "" || (o.Reason == "") != (o.Result == Pass) || o.Seconds < 0 {
			t.Errorf("%+v", o)
		}
	}
	if !slices.Equal(names, []string{"contract.answers: pass", "errors.request-id: pass", "errors.method: fail",
		"accounts.clean-up: pass", "blobs.push-token: not offered"}) {
		t.Errorf("%v", names)
	}
	if got.Passed != 3 || got.Failed != 1 || got.NotOffered != 1 || got.URL != url || got.Seconds <= 0 {
		t.Errorf("%+v", got)
	}
}

func TestARelayMayLiveBelowAPath(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t)
	plain := contractFaults[slices.IndexFunc(contractFaults, func(f fault) bool { return f.fails == answersCheck })]
	for _, c := range []struct {
		fault  fault
		failed int
	}{{fault{}, 0}, {plain, 1}} {
		b := newBroken(t, relay.API, c.fault)
		server := httptest.NewServer(http.StripPrefix("/relay", b))
		results, err := Run(t.Context(),
			Config{URL: server.URL + "/relay/", Only: []string{"contract", "gateway.ticket"}, Out: io.Discard})
		server.Close()
		if results == nil || results.Failed != c.failed || results.Passed != 5-c.failed {
			t.Errorf("%+v, %v", results, err)
		}
	}
}

// A relay that takes users by invitation is tried with one, which no result repeats.
func TestARelayMayTakeUsersByInvitation(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t, func(c *app.Config) { c.Registration = core.RegistrationInvite })
	const invitation = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	hash := sha256.Sum256([]byte(invitation))
	testdb.Exec(t, relay.DatabaseURL,
		fmt.Sprintf(`INSERT INTO invitations (hash, uses_left) VALUES ('\x%x', 100)`, hash))
	for given, failed := range map[string]bool{invitation: false, "": true} {
		var out bytes.Buffer
		results, err := Run(t.Context(), Config{URL: relay.API, Only: []string{"accounts"}, Invitation: given, Out: &out})
		if results == nil || results.Failed > 0 != failed || strings.Contains(out.String(), invitation) {
			t.Errorf("with %q: %+v, %v", given, results, err)
		}
	}
}

func TestTheList(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if _, err := Run(t.Context(), Config{List: true, Out: &out}); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, c := range checks() {
		topic, what, _ := strings.Cut(c.name, ".")
		if seen[c.name] || topic == "" || what == "" || strings.ToLower(c.name) != c.name ||
			!strings.HasSuffix(c.says, ".") {
			t.Errorf("%s: %q", c.name, c.says)
		}
		if seen[c.name] = true; !strings.Contains(out.String(), c.name) {
			t.Errorf("%s is not listed", c.name)
		}
	}
	for only, n := range map[string]int{"keys.once": 3, "limits": 4, "contract.answers": 2} {
		if got, err := selectChecks([]string{only}); err != nil || len(got) != n {
			t.Errorf("%s: %d checks, %v", only, len(got), err)
		}
	}
	for _, only := range []string{"frob", "keys.", "key", ""} {
		if _, err := selectChecks([]string{only}); err == nil {
			t.Errorf("%q is a check", only)
		}
	}
}

func TestHowLongToWait(t *testing.T) {
	t.Parallel()
	for retry, want := range map[string]time.Duration{"7": 7 * time.Second, "": time.Second, "0": time.Second,
		"-5":   time.Second,
		"soon": time.Second, "9223372036854775807": 24 * time.Hour} {
		a := answer{status: http.StatusTooManyRequests, header: http.Header{"Retry-After": {retry}}}
		if got, later := a.putOff(); got != want || !later {
			t.Errorf("Retry-After %q: %v", retry, got)
		}
	}
	if _, later := (&answer{status: http.StatusConflict}).putOff(); later {
		t.Error("a 409 is put off")
	}
}
