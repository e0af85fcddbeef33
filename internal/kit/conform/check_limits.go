package conform

import (
	"net/http"
	"time"
)

const tooManyTicketsCheck = "limits.retry-after"

// enough is how often a limit is tried before it counts as switched off.
const enough = 150

// untilLimited repeats a request until it is answered 429.
func (t *try) untilLimited(r request, want int) *answer {
	r.raw = true
	for range enough {
		a := t.send(r)
		if a.status == http.StatusTooManyRequests {
			return a
		}
		a.want(want, "")
	}
	t.notOffered("no limit within 150 requests: it is switched off, or wider")
	return nil
}

var limitChecks = []check{
	{"limits.bundles", "Fetches of bundles are limited for each pair of calling user and target user: 429, and others are not held up.", func(t *try) {
		owner, other, target, elsewhere := t.user(), t.device(), t.user(), t.user()
		caller, second := t.deviceOf(owner, 1, 0), t.deviceOf(owner, 1, 0)
		t.deviceOf(target, 1, 0)
		t.deviceOf(elsewhere, 1, 0)
		fetch := request{method: "GET", path: "/v1/users/" + target.id.String(), token: caller.token}
		a := t.untilLimited(fetch, http.StatusOK).wantError(http.StatusTooManyRequests, "")
		t.must(a.header.Get("Retry-After") != "", "429 without Retry-After")
		fetch.raw, fetch.token = true, other.token
		t.send(fetch).want(http.StatusOK, "(by another user)")
		fetch.token = second.token
		t.send(fetch).wantError(http.StatusTooManyRequests, "(by another device of the same user)")
		fetch.token, fetch.path = caller.token, "/v1/users/"+elsewhere.id.String()
		t.send(fetch).want(http.StatusOK, "(of another user)")
	}},
	{tooManyTicketsCheck, "Whoever waits as Retry-After says is served again.", func(t *try) {
		d := t.device()
		ticket := request{method: "POST", path: "/v1/gateway/ticket", token: d.token}
		a := t.untilLimited(ticket, http.StatusCreated).wantError(http.StatusTooManyRequests, "")
		pause, _ := a.putOff()
		t.must(a.header.Get("Retry-After") != "", "429 without Retry-After")
		if pause > 30*time.Second {
			t.notOffered("the wait is longer than this check has time for")
		}
		t.wait(pause + 100*time.Millisecond)
		ticket.raw = true
		t.send(ticket).want(http.StatusCreated, "(after waiting as told)")
	}},
}
