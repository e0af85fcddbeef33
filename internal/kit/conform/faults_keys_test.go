package conform

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"sync"

	"github.com/obscura-relay/obscura/gen/client"
)

const uploading = "POST /v1/devices/keys"

// bundling breaks bundles: f gets each of them, and the user whose they are.
func bundling(f func(user string, b *client.PreKeyBundle)) func(*broken) spoil {
	return answering("GET /v1/users/{id}", func(a *ask, r *reply) *reply {
		var all []client.PreKeyBundle
		if r.status != http.StatusOK || json.Unmarshal(r.body, &all) != nil {
			return r
		}
		for i := range all {
			f(a.id, &all[i])
		}
		r.body, _ = json.Marshal(all)
		return r
	})
}

// uploaded reads the keys of an upload; that of a new device has the same members.
func uploaded(a *ask) (keys client.KeyUpload) {
	_ = json.Unmarshal(a.body, &keys)
	return keys
}

var uploadFaults = []fault{
	{"keys of another type are taken", "keys.form", turned(uploading, http.StatusBadRequest, "invalid_key", okEmpty)},
	{"signatures are not verified", "keys.signatures keys.signature-rule keys.all-or-nothing",
		turned(uploading, http.StatusBadRequest, "invalid_signature", okEmpty)},
	{"the bits below the sign are not looked at", "keys.signature-rule",
		standing(uploading, func(a *ask, forward func(*ask) *reply) *reply {
			return forward(a.with(changed(a.body, func(m map[string]any) {
				if key, ok := m["signedPreKey"].(map[string]any); ok {
					if signature, err := base64.StdEncoding.DecodeString(text(key, "signature")); err == nil &&
						len(signature) == 64 {
						signature[63] &^= 0x60
						key["signature"] = base64.StdEncoding.EncodeToString(signature)
					}
				}
			})))
		})},
	{"signatures with the sign bit are refused", "keys.signature-rule",
		standing("POST /v1/devices", func(a *ask, forward func(*ask) *reply) *reply {
			if keys := uploaded(a); keys.SignedPreKey != nil && len(keys.SignedPreKey.Signature) == 64 &&
				keys.SignedPreKey.Signature[63]&0x80 != 0 {
				return madeError(http.StatusBadRequest, "invalid_signature")
			}
			return forward(a)
		})},
	{"the good keys of a bad upload are kept",
		"keys.form keys.signatures keys.all-or-nothing keys.rotation keys.rotation-last-resort",
		standing(uploading, func(a *ask, forward func(*ask) *reply) *reply {
			r := forward(a)
			if r != nil && r.status == http.StatusBadRequest {
				forward(a.with(changed(a.body, func(m map[string]any) {
					for name := range m {
						if name != "oneTimePreKeys" {
							delete(m, name)
						}
					}
				})))
			}
			return r
		})},
	{"an identity key comes without a registration id", "keys.registration-id",
		turned(uploading, http.StatusBadRequest, "registration_id_missing", okEmpty)},
	{"of too many keys the first are kept", "keys.hundred",
		standing(uploading, func(a *ask, forward func(*ask) *reply) *reply {
			return forward(a.with(changed(a.body, func(m map[string]any) {
				for _, kind := range []string{"oneTimePreKeys", "kyberPreKeys"} {
					if keys, ok := m[kind].([]any); ok && len(keys) > 100 {
						m[kind] = keys[:100]
					}
				}
			})))
		})},
	{"the digest is of something else", "keys.inventory keys.takeover",
		answering("GET /v1/devices/keys", func(_ *ask, r *reply) *reply {
			return r.change(func(m map[string]any) {
				if digest, err := base64.StdEncoding.DecodeString(text(m, "digest")); err == nil && len(digest) > 0 {
					digest[0] ^= 1
					m["digest"] = base64.StdEncoding.EncodeToString(digest)
				}
			})
		})},
	{"a key that is held already is a conflict", "keys.refill", func(*broken) spoil {
		seen := newTable[bool]()
		return spoil{http: func(a *ask, forward func(*ask) *reply) *reply {
			if a.where == uploading {
				for _, k := range uploaded(a).OneTimePreKeys {
					if !seen.add(a.token()+strconv.Itoa(int(k.KeyID))+string(k.PublicKey), true) {
						return madeError(http.StatusConflict, "key_id_conflict")
					}
				}
			}
			return forward(a)
		}}
	}},
	{"other bytes under an id are taken", "keys.conflict keys.rotation keys.rotation-last-resort",
		turned(uploading, http.StatusConflict, "", okEmpty)},
	{"a lower id is taken", "keys.rotation keys.rotation-last-resort",
		turned(uploading, http.StatusBadRequest, "key_id_not_higher", okEmpty)},
}

var bundleFaults = []fault{
	{"bundles keep the first signed pre-key", "keys.newest", func(b *broken) spoil {
		first := newTable[client.SignedPreKey]()
		return bundling(func(user string, p *client.PreKeyBundle) {
			first.add(user, p.SignedPreKey)
			p.SignedPreKey, _ = first.get(user)
		})(b)
	}},
	{"a bundle has another registration id", "keys.bundle keys.takeover",
		bundling(func(_ string, p *client.PreKeyBundle) {
			p.RegistrationID = p.RegistrationID%16383 + 1
		})},
	{"every tenth bundle is handed out twice", "keys.once", func(*broken) spoil {
		var mu sync.Mutex
		last, count := map[string]*reply{}, map[string]int{}
		return spoil{http: func(a *ask, forward func(*ask) *reply) *reply {
			r := forward(a)
			if r == nil || a.where != "GET /v1/users/{id}" || r.status != http.StatusOK {
				return r
			}
			mu.Lock()
			defer mu.Unlock()
			if count[a.id]++; count[a.id]%10 == 0 {
				return last[a.id]
			}
			last[a.id] = r
			return r
		}}
	}},
	{"an EC key whose upload is repeated is handed out again", "keys.repeated",
		comingBack(func(keys *client.KeyUpload, b *client.PreKeyBundle, again func([]byte) bool) {
			for i, k := range keys.OneTimePreKeys {
				if again(k.PublicKey) {
					b.OneTimePreKey = &keys.OneTimePreKeys[i]
				}
			}
		})},
	{"a Kyber key whose upload is repeated is handed out again", "keys.repeated",
		comingBack(func(keys *client.KeyUpload, b *client.PreKeyBundle, again func([]byte) bool) {
			for i, k := range keys.KyberPreKeys {
				if again(k.PublicKey) {
					b.KyberPreKey = &keys.KyberPreKeys[i]
				}
			}
		})},
	{"the highest id is handed out first", "keys.lowest-first", highestFirst},
	{"the last EC key is handed out for ever", "keys.once keys.exhausted", func(b *broken) spoil {
		last := newTable[*client.OneTimePreKey]()
		return bundling(func(user string, p *client.PreKeyBundle) {
			if p.OneTimePreKey != nil {
				last.put(user, p.OneTimePreKey)
			}
			p.OneTimePreKey, _ = last.get(user)
		})(b)
	}},
	{"the last-resort key is used up", "keys.once keys.last-resort", func(b *broken) spoil {
		used := newTable[bool]()
		return bundling(func(user string, p *client.PreKeyBundle) {
			if k := p.KyberPreKey; k != nil && k.KeyID >= 1000 && !used.add(user+strconv.Itoa(int(k.KeyID)), true) {
				p.KyberPreKey = nil
			}
		})(b)
	}},
	{"an unknown user has no devices", "keys.unknown-user accounts.delete devices.removed lists.named-bundles",
		turned("GET /v1/users/{id}", http.StatusNotFound, "", func() *reply {
			return made(http.StatusOK, []any{})
		})},
}

// comingBack lets replace find keys in a device's last upload that were handed out before they
// came.
func comingBack(replace func(keys *client.KeyUpload, b *client.PreKeyBundle,
	again func([]byte) bool)) func(*broken) spoil {
	return func(b *broken) spoil {
		type last struct {
			keys  client.KeyUpload
			again map[string]bool
		}
		uploads, handed := newTable[last](), newTable[bool]()
		handOut := bundling(func(_ string, p *client.PreKeyBundle) {
			if l, ok := uploads.get(p.DeviceID.String()); ok {
				replace(&l.keys, p, func(public []byte) bool { return l.again[string(public)] })
			}
			if p.OneTimePreKey != nil {
				handed.put(string(p.OneTimePreKey.PublicKey), true)
			}
			if p.KyberPreKey != nil {
				handed.put(string(p.KyberPreKey.PublicKey), true)
			}
		})(b)
		return spoil{http: func(a *ask, forward func(*ask) *reply) *reply {
			r := handOut.http(a, forward)
			if r == nil || r.status != http.StatusOK || a.where != uploading {
				return r
			}
			l := last{uploaded(a), map[string]bool{}}
			for _, k := range l.keys.OneTimePreKeys {
				_, l.again[string(k.PublicKey)] = handed.get(string(k.PublicKey))
			}
			for _, k := range l.keys.KyberPreKeys {
				_, l.again[string(k.PublicKey)] = handed.get(string(k.PublicKey))
			}
			uploads.put(readClaims(a.token()).device(), l)
			return r
		}}
	}
}

// highestFirst keeps the keys itself: each is handed out once, and the highest first.
func highestFirst(b *broken) spoil {
	stock := newTable[[]client.OneTimePreKey]()
	handOut := bundling(func(_ string, p *client.PreKeyBundle) {
		if p.OneTimePreKey == nil {
			return
		}
		stock.change(p.DeviceID.String(), func(keys []client.OneTimePreKey) []client.OneTimePreKey {
			if len(keys) == 0 {
				return keys
			}
			highest := 0
			for i, k := range keys {
				if k.KeyID > keys[highest].KeyID {
					highest = i
				}
			}
			key := keys[highest]
			p.OneTimePreKey = &key
			return slices.Delete(keys, highest, highest+1)
		})
	})(b)
	return spoil{http: func(a *ask, forward func(*ask) *reply) *reply {
		return handOut.http(a, func(a *ask) *reply {
			r := forward(a)
			if r == nil || r.status >= 300 || a.where != "POST /v1/devices" && a.where != uploading {
				return r
			}
			device := readClaims(a.token()).device()
			if a.where == "POST /v1/devices" {
				device = text(object(r.body), "deviceId")
			}
			keys := uploaded(a)
			stock.change(device, func(held []client.OneTimePreKey) []client.OneTimePreKey {
				if keys.IdentityKey != nil {
					held = nil
				}
				return append(held, keys.OneTimePreKeys...)
			})
			return r
		})
	}}
}
