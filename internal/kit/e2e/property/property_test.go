package property_test

import (
	"flag"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/obscura-relay/obscura/internal/app"
	"github.com/obscura-relay/obscura/internal/kit/e2e"
	"github.com/obscura-relay/obscura/internal/kit/relaytest"
)

// marker stands in what is wrong, and nowhere in an answer.
const marker = "zqMARKERqz"

// patience is for log-ins by the dozen: a busy machine hashes slowly.
const patience = 2 * time.Minute

// TestEveryOperationKeepsTheContractWhateverItIsSent draws requests to every operation from its
// schemas. What is right is accepted; what is broken in one place is refused as it should be, and
// writes nothing into the database; and no answer is a failure, or one that the contract does not
// declare, or repeats a secret or what was wrong. OBSCURA_TEST_STEPS draws more of each.
func TestEveryOperationKeepsTheContractWhateverItIsSent(t *testing.T) {
	t.Parallel()
	relay := relaytest.Start(t, func(c *app.Config) { c.RequestTimeout = patience })
	database := e2e.Database(t, relay)
	all, err := operations()
	if err != nil {
		t.Fatal(err)
	}
	faults := slices.Concat(faultsOfBodies, faultsOfRequests)
	used := map[string]int{}
	w := newWorld(t, relay, database)
	for _, o := range all { // one after the other: nobody else writes
		drive, known := drivers[o.OperationID]
		if !known {
			t.Errorf("nobody drives %s: say in drivers what it takes to be accepted", o.OperationID)
			continue
		}
		if time.Since(w.made) > 5*time.Minute { // tokens live for fifteen
			w = newWorld(t, relay, database)
		}
		t.Run(o.OperationID, func(t *testing.T) {
			w.TB, w.spare = t, nil
			good := func(rt *rapid.T, full bool) *call {
				c := drawCall(rt, w, o, full)
				if drive != nil {
					drive(rt, w, c)
				}
				return c
			}
			accepted := 0
			t.Run("by the schemas alone", rapid.MakeCheck(func(rt *rapid.T) { drawCall(rt, w, o, false).send(rt, w) }))
			t.Run("right", rapid.MakeCheck(func(rt *rapid.T) {
				c := good(rt, false)
				c.embellish(rt)
				r := c.send(rt, w)
				if r.Status >= http.StatusMultipleChoices {
					rt.Fatalf("status %d: %s", r.Status, r.Body)
				}
				accepted++
				c.accepted(r)
			}))
			if least := checks(t); accepted < least {
				t.Errorf("%d requests were accepted, want %d", accepted, least)
			}
			for _, f := range faults {
				if !f.fits(o) {
					continue
				}
				used[f.name]++
				t.Run(f.name, rapid.MakeCheck(func(rt *rapid.T) {
					c := good(rt, true)
					f.apply(rt, w, c)
					before := w.snapshot()
					r := c.send(rt, w)
					if r.Status != f.status {
						rt.Errorf("status %d, want %d: %s\n%.2000s", r.Status, f.status, r.Body, c.bytes())
					}
					if after := w.snapshot(); after != before {
						w.spare, w.owner = nil, nil // whatever became of them
						rt.Errorf("it changed what the relay holds:\n%s\nwas\n%s", after, before)
					}
				}))
			}
		})
	}
	for _, f := range faults {
		if used[f.name] == 0 {
			t.Errorf("nothing was broken by %s", f.name)
		}
	}
	if at := strings.Index(relay.Log.String(), marker); at >= 0 {
		t.Errorf("the log repeats what was wrong: %s", relay.Log.String()[max(0, at-300):at+len(marker)])
	}
	if len(drivers) != len(all) {
		t.Errorf("%d drivers for %d operations", len(drivers), len(all))
	}
}

// checks is how often rapid tries a property.
func checks(t *testing.T) int {
	t.Helper()
	n, err := strconv.Atoi(flag.Lookup("rapid.checks").Value.String())
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// embellish changes what changes nothing: members that nobody knows, also when a careless decoder
// would take them for others, parameters of the media type, an id for the request.
func (c *call) embellish(t *rapid.T) {
	if rapid.Bool().Draw(t, "with a request id") {
		c.header.Set("X-Request-Id", uuid.NewString())
	}
	if c.media != "" && rapid.Bool().Draw(t, "with a parameter") {
		c.header.Set("Content-Type", c.media+"; charset=utf-8")
	}
	if c.body == nil {
		return
	}
	c.body.each(func(n *node) {
		if n.members == nil || n.schema == nil || rapid.Bool().Draw(t, "without a stranger") {
			return
		}
		names := []string{marker}
		for name := range n.schema.Properties {
			if !slices.ContainsFunc(n.members, func(m member) bool { return m.name == name }) {
				names = append(names, strings.ToUpper(name))
			}
		}
		slices.Sort(names)
		stranger := toNode(map[string]any{marker: []any{map[string]any{"publicKey": 7, "PublicKey2": nil}, true}}, nil)
		n.members = slices.Insert(n.members, rapid.IntRange(0, len(n.members)).Draw(t, "at"),
			member{rapid.SampledFrom(names).Draw(t, "stranger"), stranger})
	})
}
