package conform

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"flag"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"golang.org/x/sync/errgroup"

	"github.com/obscura-relay/obscura/internal/app"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
	"github.com/obscura-relay/obscura/internal/limit"
)

// whole makes every fault meet every check: make test-conform. Else it meets those that must find
// it, which takes a tenth of the time.
var whole = flag.Bool("whole", false, "run all checks against each fault")

// these picks faults, because -run picks too late.
var these = flag.String("faults", "", "break only what has this in its name")

// faults lists everything that can be broken.
func faults() []fault {
	return slices.Concat(contractFaults, accountFaults, sessionFaults, deviceFaults, uploadFaults, bundleFaults,
		takeoverFaults,
		messageFaults, idempotencyFaults, deliveryFaults, ackFaults, gatewayFaults, accountingFaults, limitFaults,
		listFaults, blobFaults, certificateFaults, sealedFaults)
}

// asDeployed has the limits of a relay as it is started, but for those per address: all of a test
// comes from one.
func asDeployed(t testing.TB) func(*app.Config) {
	var started struct {
		Serve struct{ app.Config } `cmd:""`
	}
	parser, err := kong.New(&started)
	if err == nil {
		_, err = parser.Parse([]string{"serve"})
	}
	if err != nil {
		t.Fatal(err)
	}
	return func(c *app.Config) {
		cfg := started.Serve.Config
		cfg.Listen, cfg.ManagementListen, cfg.Database, cfg.BlobURL = c.Listen, c.ManagementListen, c.Database,
			c.BlobURL
		wide := limit.Rate{Events: 1_000_000, Per: time.Minute}
		cfg.Limits = map[string]limit.Rate{"register": wide, "log-in": wide, "refresh": wide, "credentials": wide,
			"documents": wide, "sealed-sends": wide, "sealed-lookups": wide}
		*c = cfg
	}
}

func TestEachFaultFailsItsChecksAndNoOthers(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t, asDeployed(t))
	all := slices.DeleteFunc(append(faults(), fault{name: "nothing is broken"}), func(f fault) bool {
		return !strings.Contains(f.name, *these)
	})
	// A run mostly waits, so more of them go beside each other than there are cores.
	var g errgroup.Group
	g.SetLimit(6)
	runs := make([]func(t *testing.T), len(all))
	for i, f := range all {
		url := breakIt(t, relay.API, f)
		g.Go(func() error {
			want := strings.Fields(f.fails)
			cfg := Config{URL: url, Out: io.Discard, Progress: io.Discard}
			if !*whole && len(want) > 0 {
				cfg.Only = want
			}
			results, err := Run(t.Context(), cfg)
			runs[i] = func(t *testing.T) { compare(t, want, results, err) }
			return nil
		})
	}
	_ = g.Wait()
	for i, f := range all {
		t.Run(f.name, runs[i])
	}
}

// compare holds what failed against what must.
func compare(t *testing.T, want []string, results *Results, err error) {
	t.Helper()
	if results == nil {
		t.Fatal(err)
	}
	for _, o := range results.Checks {
		switch expected := slices.Contains(want, o.Name); {
		case expected && o.Result != Fail:
			t.Errorf("%s does not find it: %s %s", o.Name, o.Result, o.Reason)
		case !expected && o.Result == Fail:
			t.Errorf("%s fails: %s", o.Name, o.Reason)
		case expected:
			t.Logf("%s: %s", o.Name, o.Reason)
		}
	}
	if (err != nil) != (len(want) > 0) {
		t.Errorf("Run returns: %v", err)
	}
}

func TestEachCheckHasAFaultThatItFinds(t *testing.T) {
	t.Parallel()
	named := map[string]bool{}
	for _, f := range faults() {
		for _, name := range strings.Fields(f.fails) {
			named[name] = true
		}
	}
	for _, c := range checks() {
		if !named[c.name] {
			t.Errorf("%s: no fault that it must find", c.name)
		}
		delete(named, c.name)
	}
	for name := range named {
		t.Errorf("a fault names %s, which is no check", name)
	}
}

// change edits the JSON object of an answer.
func (r *reply) change(f func(m map[string]any)) *reply {
	r.body = changed(r.body, f)
	return r
}

// changed edits a JSON object.
func changed(body []byte, f func(m map[string]any)) []byte {
	var m map[string]any
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	if d.Decode(&m) != nil {
		return body
	}
	f(m)
	out, _ := json.Marshal(m)
	return out
}

// object reads a JSON object, or nothing.
func object(body []byte) map[string]any {
	var m map[string]any
	_ = json.Unmarshal(body, &m)
	return m
}

func text(m map[string]any, name string) string {
	s, _ := m[name].(string)
	return s
}

// readClaims reads an access token; what is none has no claims.
func readClaims(token string) claims {
	var c claims
	if parts := strings.Split(token, "."); len(parts) == 3 {
		payload, _ := base64.RawURLEncoding.DecodeString(parts[1])
		_ = json.Unmarshal(payload, &c)
	}
	return c
}

func (c claims) device() string {
	if c.DeviceID == nil {
		return ""
	}
	return c.DeviceID.String()
}

// answering breaks the answers of one operation.
func answering(where string, f func(a *ask, r *reply) *reply) func(*broken) spoil {
	return func(*broken) spoil {
		return spoil{http: func(a *ask, forward func(*ask) *reply) *reply {
			r := forward(a)
			if r == nil || a.where != where {
				return r
			}
			return f(a, r)
		}}
	}
}

// standing stands in for one operation.
func standing(where string, f func(a *ask, forward func(*ask) *reply) *reply) func(*broken) spoil {
	return func(*broken) spoil {
		return spoil{http: func(a *ask, forward func(*ask) *reply) *reply {
			if a.where != where {
				return forward(a)
			}
			return f(a, forward)
		}}
	}
}

// turned answers something else in place of a status and a code; an empty code is any.
func turned(where string, status int, code string, into func() *reply) func(*broken) spoil {
	return answering(where, func(_ *ask, r *reply) *reply {
		if r.status == status && (code == "" || text(object(r.body), "code") == code) {
			return into()
		}
		return r
	})
}

func TestAnUnreachableRelayIsAnError(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for url, want := range map[string]string{"http://127.0.0.1:1": "no relay answers at this URL", "": "must look like",
		"127.0.0.1:3000": "must look like", "http://user:secret@127.0.0.1:1": "must look like",
		"ftp://127.0.0.1": "must look like"} {
		_, err := Run(ctx, Config{URL: url, Out: io.Discard})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", url, err)
		}
	}
}
