package conform

import (
	"encoding/base64"
	"net/http"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/obscura-relay/obscura/internal/kit/prekeytest"
	"github.com/obscura-relay/obscura/internal/xeddsa"
)

// certifying is a relay with a trust root of its own, which certifies what it likes.
func certifying(change func(c *prekeytest.SenderCertificate, answer map[string]any)) func(*broken) spoil {
	return func(*broken) spoil {
		root, server := xeddsa.Generate(), xeddsa.Generate()
		good := newTable[[]byte]()
		return spoil{http: func(a *ask, forward func(*ask) *reply) *reply {
			r := forward(a)
			if r == nil || r.status != http.StatusOK {
				return r
			}
			switch a.where {
			case "GET " + rootPath:
				return r.change(func(m map[string]any) {
					goodRoot, _ := base64.StdEncoding.DecodeString(text(m, "publicKey"))
					good.put("root", goodRoot)
					m["publicKey"] = root.PublicKey()
				})
			case "GET " + senderPath:
				return r.change(func(m map[string]any) {
					certificate, _ := base64.StdEncoding.DecodeString(text(m, "certificate"))
					goodRoot, _ := good.get("root")
					c, err := prekeytest.ParseSenderCertificate(certificate, goodRoot)
					if err != nil {
						return
					}
					change(c, m)
					m["certificate"] = certificateOf(c, root, server)
				})
			}
			return r
		}}
	}
}

// certificateOf writes and signs a certificate, and that of the server key.
func certificateOf(c *prekeytest.SenderCertificate, root, server *xeddsa.PrivateKey) []byte {
	field := func(b []byte, n protowire.Number, value []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(b, n, protowire.BytesType), value)
	}
	number := func(b []byte, n protowire.Number, value uint64) []byte {
		return protowire.AppendVarint(protowire.AppendTag(b, n, protowire.VarintType), value)
	}
	signed := func(key *xeddsa.PrivateKey, b []byte) []byte { return field(field(nil, 1, b), 2, key.Sign(b)) }
	b := number(field(nil, 1, []byte(c.SenderE164)), 2, uint64(c.Device))
	b = protowire.AppendFixed64(protowire.AppendTag(b, 3, protowire.Fixed64Type), uint64(c.Expires.UnixMilli()))
	b = field(field(b, 4, c.IdentityKey), 5, signed(root, field(number(nil, 1, 1), 2, server.PublicKey())))
	return signed(server, field(b, 6, []byte(c.SenderUUID)))
}

// lasting changes when a certificate expires, and what the answer says of it.
func lasting(d time.Duration) func(*broken) spoil {
	return certifying(func(c *prekeytest.SenderCertificate, answer map[string]any) {
		c.Expires = c.Expires.Add(d)
		answer["expiresAt"] = c.Expires.Unix()
	})
}

var certificateFaults = []fault{
	{"the trust root is not the one that signs", "certificates.sender certificates.expiry certificates.takeover",
		answering("GET "+rootPath, func(_ *ask, r *reply) *reply {
			return r.change(func(m map[string]any) { m["publicKey"] = xeddsa.Generate().PublicKey() })
		})},
	{"a byte of the certificate is another", "certificates.sender certificates.expiry certificates.takeover",
		answering("GET "+senderPath, func(_ *ask, r *reply) *reply {
			return r.change(func(m map[string]any) {
				if certificate, _ := base64.StdEncoding.DecodeString(text(m, "certificate")); len(certificate) > 9 {
					certificate[9] ^= 1
					m["certificate"] = certificate
				}
			})
		})},
	{"the name in a certificate is the user", "certificates.sender",
		certifying(func(c *prekeytest.SenderCertificate, _ map[string]any) { c.SenderUUID = c.SenderE164 })},
	{"a certificate does not name the user", "certificates.sender",
		certifying(func(c *prekeytest.SenderCertificate, _ map[string]any) { c.SenderE164 = "+15550100" })},
	{"a certificate has another device number", "certificates.sender",
		certifying(func(c *prekeytest.SenderCertificate, _ map[string]any) { c.Device++ })},
	{"a certificate has another identity key", "certificates.sender certificates.takeover",
		certifying(func(c *prekeytest.SenderCertificate, _ map[string]any) {
			c.IdentityKey = xeddsa.Generate().PublicKey()
		})},
	{"certificates last a week", "certificates.expiry", lasting(6 * 24 * time.Hour)},
	{"certificates last an hour", "certificates.expiry", lasting(-23 * time.Hour)},
	{"a certificate tells when it was asked for", "certificates.expiry", lasting(-17 * time.Second)},
	{"the answer says another time than the certificate", "certificates.expiry",
		answering("GET "+senderPath, func(_ *ask, r *reply) *reply {
			return r.change(func(m map[string]any) {
				if _, certified := m["certificate"]; certified {
					m["expiresAt"] = time.Now().Unix()
				}
			})
		})},
	{"certificates are given to anybody", "certificates.token",
		answering("GET "+senderPath, func(_ *ask, r *reply) *reply {
			if r.status == http.StatusForbidden {
				return made(http.StatusOK, map[string]any{"certificate": []byte("none"), "expiresAt": 2_000_000_000})
			}
			return r
		})},
	{"a certificate is refused with another code", "certificates.token",
		answering("GET "+senderPath, func(_ *ask, r *reply) *reply {
			if r.status == http.StatusForbidden {
				return madeError(http.StatusForbidden, "forbidden")
			}
			return r
		})},
	{"a takeover keeps the old certificate", "certificates.takeover", func(*broken) spoil {
		first := newTable[*reply]()
		return spoil{http: func(a *ask, forward func(*ask) *reply) *reply {
			r := forward(a)
			if a.where != "GET "+senderPath || r == nil || r.status != http.StatusOK {
				return r
			}
			if old, known := first.get(a.token()); known {
				return old
			}
			first.put(a.token(), r)
			return r
		}}
	}},
	{"a session that has ended gets certificates", "certificates.takeover", func(*broken) spoil {
		last := newTable[*reply]()
		return spoil{http: func(a *ask, forward func(*ask) *reply) *reply {
			r := forward(a)
			if a.where != "GET "+senderPath || r == nil {
				return r
			}
			if r.status == http.StatusOK {
				last.put(readClaims(a.token()).device(), r)
			}
			if old, known := last.get(readClaims(a.token()).device()); known && r.status == http.StatusUnauthorized {
				return old
			}
			return r
		}}
	}},
}
