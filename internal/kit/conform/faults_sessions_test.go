package conform

import (
	"net/http"
	"strings"
	"time"
)

// live answers for tokens that have ended: GET /v1/devices goes on with all that ever worked.
func live(*broken) spoil {
	worked := newTable[bool]()
	return spoil{http: func(a *ask, forward func(*ask) *reply) *reply {
		r := forward(a)
		if r == nil {
			return r
		}
		_, known := worked.get(a.token())
		switch {
		case r.status < 300 && a.token() != "":
			worked.put(a.token(), true)
		case r.status == http.StatusUnauthorized && a.where == "GET /v1/devices" && known:
			return made(http.StatusOK, map[string]any{"devices": []any{}})
		}
		return r
	}}
}

var sessionFaults = []fault{
	{"access tokens that have ended go on working",
		"accounts.password-sessions accounts.delete accounts.clean-up tokens.log-out " +
			"tokens.refresh-reuse devices.removed keys.takeover-sessions", live},
	{"expiresAt is an hour late", "tokens.claims", answering("POST /v1/sessions", func(_ *ask, r *reply) *reply {
		if r.status == http.StatusOK {
			r.change(func(m map[string]any) { m["expiresAt"] = time.Now().Add(time.Hour).Unix() })
		}
		return r
	})},
	{"the signature of a token is not looked at", "tokens.required", func(*broken) spoil {
		seen := newTable[string]()
		return spoil{http: func(a *ask, forward func(*ask) *reply) *reply {
			token := a.token()
			r := forward(a)
			dot := strings.LastIndex(token, ".")
			if r == nil || dot < 0 {
				return r
			}
			if r.status < 300 {
				seen.put(token[:dot], token)
				return r
			}
			if good, ok := seen.get(token[:dot]); ok && good != token && r.status == http.StatusUnauthorized {
				a.header.Set("Authorization", "Bearer "+good)
				return forward(a)
			}
			return r
		}}
	}},
	{"tickets are made for user-scoped tokens", "tokens.scopes",
		turned("POST /v1/gateway/ticket", http.StatusForbidden, "", func() *reply {
			return made(http.StatusCreated, map[string]string{"ticket": "made-up"})
		})},
	{"a log-in does not look at deviceId", "tokens.log-in-device tokens.claims tokens.refresh keys.takeover-sessions",
		standing("POST /v1/sessions", func(a *ask, forward func(*ask) *reply) *reply {
			return forward(a.with(changed(a.body, func(m map[string]any) { delete(m, "deviceId") })))
		})},
	{"logging out does nothing", "tokens.log-out",
		standing("DELETE /v1/sessions", func(*ask, func(*ask) *reply) *reply { return okEmpty() })},
	{"a refresh loses the device", "tokens.refresh",
		answering("POST /v1/sessions/refresh", func(_ *ask, r *reply) *reply {
			return r.change(func(m map[string]any) { delete(m, "deviceId"); delete(m, "deviceNumber") })
		})},
	{"a refresh token cannot be presented again", "tokens.refresh-grace", refreshing(func(age time.Duration) bool {
		return age < 10*time.Second
	})},
	{"other devices are not told of a change of password", "accounts.password-told",
		refreshesAnswered("password_changed", "invalid_refresh_token")},
	{"whoever names a session is told of a change of password", "accounts.password-told",
		refreshesAnswered("invalid_refresh_token", "password_changed")},
	{"a reused refresh token ends nothing", "tokens.refresh-reuse", refreshing(func(age time.Duration) bool {
		return age >= 10*time.Second
	})},
}

// refreshesAnswered has refreshes refused with another code.
func refreshesAnswered(code, instead string) func(*broken) spoil {
	return answering("POST /v1/sessions/refresh", func(_ *ask, r *reply) *reply {
		if r.status == http.StatusUnauthorized && text(object(r.body), "code") == code {
			return madeError(http.StatusUnauthorized, instead)
		}
		return r
	})
}

// refreshing refuses refresh tokens that were presented before, without asking the relay, if they
// are of the right age.
func refreshing(refused func(age time.Duration) bool) func(*broken) spoil {
	return func(*broken) spoil {
		used := newTable[time.Time]()
		return spoil{http: func(a *ask, forward func(*ask) *reply) *reply {
			if a.where != "POST /v1/sessions/refresh" {
				return forward(a)
			}
			token := text(object(a.body), "refreshToken")
			if at, before := used.get(token); before && refused(time.Since(at)) {
				return madeError(http.StatusUnauthorized, "invalid_refresh_token")
			}
			r := forward(a)
			if r != nil && r.status == http.StatusOK {
				used.add(token, time.Now())
			}
			return r
		}}
	}
}

var deviceFaults = []fault{
	{"one device says another number than the list", "devices.numbers",
		answering("GET /v1/devices/{id}", func(_ *ask, r *reply) *reply {
			return r.change(func(m map[string]any) { m["deviceNumber"] = 127 })
		})},
	{"the number of a removed device is given out again", "devices.number-rests", func(*broken) spoil {
		numbers, free := newTable[any](), newTable[any]()
		return spoil{http: func(a *ask, forward func(*ask) *reply) *reply {
			r, owner := forward(a), readClaims(a.token()).Sub.String()
			if r == nil {
				return r
			}
			switch {
			case a.where == "DELETE /v1/devices/{id}" && r.status == http.StatusOK:
				number, _ := numbers.get(a.id)
				free.put(owner, number)
			case a.where == "POST /v1/devices" && r.status == http.StatusCreated:
				r.change(func(m map[string]any) {
					if number, ok := free.get(owner); ok {
						m["deviceNumber"] = number
					}
					numbers.put(text(m, "deviceId"), m["deviceNumber"])
				})
			}
			return r
		}}
	}},
	{"a new name is not kept", "devices.manage",
		standing("PUT /v1/devices/{id}", func(a *ask, forward func(*ask) *reply) *reply {
			read := a.with(nil)
			read.method = "GET"
			read.header.Del("Content-Type")
			r := forward(read)
			if r != nil && r.status == http.StatusOK {
				r.change(func(m map[string]any) { m["name"] = object(a.body)["name"] })
			}
			return r
		})},
	{"removing a device does nothing", "devices.manage devices.removed",
		standing("DELETE /v1/devices/{id}", func(a *ask, forward func(*ask) *reply) *reply {
			read := a.with(nil)
			read.method = "GET"
			if r := forward(read); r == nil || r.status != http.StatusOK {
				return r
			}
			return okEmpty()
		})},
	{"anybody may read a device", "devices.foreign", func(*broken) spoil {
		there := newTable[bool]()
		return spoil{http: func(a *ask, forward func(*ask) *reply) *reply {
			r := forward(a)
			if r == nil {
				return r
			}
			known, _ := there.get(a.id)
			switch {
			case a.where == "POST /v1/devices" && r.status == http.StatusCreated:
				there.put(text(object(r.body), "deviceId"), true)
			case a.where == "DELETE /v1/devices/{id}" && r.status == http.StatusOK:
				there.put(a.id, false)
			case a.where == "GET /v1/devices/{id}" && r.status == http.StatusNotFound && known:
				return made(http.StatusOK, map[string]any{"deviceId": a.id, "deviceNumber": 1, "name": nil,
					"createdAt": time.Now()})
			}
			return r
		}}
	}},
	{"there is no limit of devices", "devices.limit", turned("POST /v1/devices", http.StatusForbidden, "device_limit",
		func() *reply {
			return made(http.StatusCreated, pair())
		})},
}
