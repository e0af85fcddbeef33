package conform

import (
	"net/http"
	"strings"

	"github.com/google/uuid"

	"github.com/obscura-relay/obscura/gen/obscurapb"
)

func okEmpty() *reply { return &reply{status: http.StatusOK, header: made(200, nil).header} }

// pair is an AuthResponse as good as any that a proxy can make.
func pair() map[string]any {
	return map[string]any{"token": "a.b.c", "refreshToken": "made-up", "expiresAt": 2_000_000_000}
}

var accountFaults = []fault{
	{"a registration is device-scoped", "accounts.register", answering("POST /v1/users", func(_ *ask, r *reply) *reply {
		if r.status == http.StatusCreated {
			r.change(func(m map[string]any) { m["deviceId"], m["deviceNumber"] = uuid.NewString(), 1 })
		}
		return r
	})},
	{"names are told apart by case", "accounts.name-taken",
		standing("POST /v1/users", func(a *ask, forward func(*ask) *reply) *reply {
			if name := text(object(a.body), "username"); strings.HasPrefix(name, "CONFORM_") {
				a = a.with(changed(a.body, func(m map[string]any) { m["username"] = "other_" + randomHex(8) }))
			}
			return forward(a)
		})},
	{"short passwords are taken", "accounts.rules accounts.clean-up",
		answering("POST /v1/users", func(a *ask, r *reply) *reply {
			if n := len(text(object(a.body), "password")); r.status == http.StatusBadRequest && n > 0 && n < 12 {
				return made(http.StatusCreated, pair())
			}
			return r
		})},
	{"a wrong password logs in", "accounts.log-in accounts.unknown-name accounts.password accounts.delete",
		func(*broken) spoil {
			registered := newTable[[]byte]()
			return spoil{http: func(a *ask, forward func(*ask) *reply) *reply {
				r, name := forward(a), text(object(a.body), "username")
				if r == nil {
					return r
				}
				switch {
				case a.where == "POST /v1/users" && r.status == http.StatusCreated:
					registered.put(name, r.body)
				case a.where == "POST /v1/sessions" && r.status == http.StatusUnauthorized:
					if body, ok := registered.get(name); ok {
						r.status, r.body = http.StatusOK, body
					}
				}
				return r
			}}
		}},
	{"a refresh token that is shown is not looked at", "accounts.guesses",
		standing("POST /v1/sessions", func(a *ask, forward func(*ask) *reply) *reply {
			return forward(a.with(changed(a.body, func(m map[string]any) { delete(m, "refreshToken") })))
		})},
	{"unknown names are told apart", "accounts.unknown-name", func(*broken) spoil {
		registered := newTable[bool]()
		return spoil{http: func(a *ask, forward func(*ask) *reply) *reply {
			name := text(object(a.body), "username")
			if a.where == "POST /v1/users" {
				registered.put(name, true)
			}
			r := forward(a)
			if _, known := registered.get(name); r != nil && a.where == "POST /v1/sessions" &&
				r.status == http.StatusUnauthorized && !known {
				return madeError(http.StatusUnauthorized, "unknown_name")
			}
			return r
		}}
	}},
	{"a password is changed without the current one", "accounts.password", func(*broken) spoil {
		return givingPassword("PUT /v1/account/password", "currentPassword")
	}},
	{"an account is deleted whatever the password", "accounts.delete-password", func(*broken) spoil {
		return givingPassword("DELETE /v1/account", "password")
	}},
	{"accounts are not deleted", "accounts.delete accounts.clean-up",
		standing("DELETE /v1/account", func(a *ask, forward func(*ask) *reply) *reply {
			check := a.with(nil)
			check.method = "GET"
			password := text(object(a.body), "password")
			if r := forward(check); r == nil || r.status != http.StatusOK || strings.HasSuffix(password, "x") {
				return forward(a)
			}
			return okEmpty()
		})},
	{"what a deleted account has sent goes with it", "accounts.delete-sent", func(*broken) spoil {
		gone := newTable[bool]()
		return spoil{
			http: func(a *ask, forward func(*ask) *reply) *reply {
				r := forward(a)
				if r != nil && a.where == "DELETE /v1/account" && r.status == http.StatusOK {
					gone.put(readClaims(a.token()).Sub.String(), true)
				}
				return r
			},
			down: filtered(func(_ *link, e *obscurapb.Envelope) bool {
				_, deleted := gone.get(uuid.UUID(e.GetSenderId()).String())
				return !deleted
			}),
		}
	}},
	{"the export forgets pending mail", "accounts.export accounting.cap",
		answering("GET /v1/account", func(_ *ask, r *reply) *reply {
			return r.change(func(m map[string]any) {
				devices, _ := m["devices"].([]any)
				for _, d := range devices {
					d.(map[string]any)["mailbox"].(map[string]any)["pending"] = 0
				}
			})
		})},
}

// givingPassword repeats a call that lacks the right password with it.
func givingPassword(where, member string) spoil {
	passwords := newTable[string]()
	return spoil{http: func(a *ask, forward func(*ask) *reply) *reply {
		r := forward(a)
		if r == nil {
			return r
		}
		switch body := object(a.body); {
		case a.where == "POST /v1/users" && r.status == http.StatusCreated:
			passwords.put(readClaims(text(object(r.body), "token")).Sub.String(), text(body, "password"))
		case a.where == where && r.status == http.StatusUnauthorized:
			if password, ok := passwords.get(readClaims(a.token()).Sub.String()); ok && text(body, member) != password {
				return forward(a.with(changed(a.body, func(m map[string]any) { m[member] = password })))
			}
		}
		return r
	}}
}

// filtered keeps the envelopes that f likes.
func filtered(f func(*link, *obscurapb.Envelope) bool) func(*link,
	*obscurapb.WebSocketFrame) []*obscurapb.WebSocketFrame {
	return func(l *link, frame *obscurapb.WebSocketFrame) []*obscurapb.WebSocketFrame {
		batch := frame.GetEnvelopeBatch()
		if batch == nil {
			return []*obscurapb.WebSocketFrame{frame}
		}
		var kept []*obscurapb.Envelope
		for _, e := range batch.GetEnvelopes() {
			if f(l, e) {
				kept = append(kept, e)
			}
		}
		if len(kept) == 0 {
			return nil
		}
		batch.Envelopes = kept
		return []*obscurapb.WebSocketFrame{frame}
	}
}
