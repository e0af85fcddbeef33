package property_test

import (
	"bytes"
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/obscura-relay/obscura/internal/kit/e2e"
)

func hasJSON(o *operation) bool { return o.schema != nil }
func hasBody(o *operation) bool { return o.media != "" }

func notOctets(o *operation) bool { return hasBody(o) && o.media != e2e.Octets }
func guarded(o *operation) bool   { return !o.public }
func inPath(o *operation) bool {
	return slices.ContainsFunc(o.Parameters, func(p *openapi3.ParameterRef) bool {
		return p.Value.In == "path" && p.Value.Schema.Value.Format == "uuid"
	})
}
func inHeader(o *operation) bool {
	return o.Parameters.GetByInAndName("header", "Idempotency-Key") != nil
}

func operationsOf(ids ...string) func(*operation) bool {
	return func(o *operation) bool {
		return strings.Contains(" "+strings.Join(ids, " ")+" ", " "+o.OperationID+" ")
	}
}

// malformedIDs are no UUIDs as the contract writes them.
func malformedIDs(id string) []string {
	return []string{marker, "{" + id + "}", "urn:uuid:" + id, strings.ReplaceAll(id, "-", ""), id + "0", id[1:],
		strings.Replace(id, "-", "_", 1),
		id + ".", "g" + id[1:], strings.Repeat("0", 36), strings.Repeat(id, 20), "../users", "*"}
}

var faultsOfRequests = []fault{
	{"a body that is no JSON", 400, hasJSON, func(t *rapid.T, _ *world, c *call) {
		text := c.bytes()
		c.raw = rapid.SampledFrom([][]byte{
			{}, []byte("  "), []byte("null"), []byte("[]"), []byte(marker), []byte(`"` + marker + `"`),
			[]byte("\xef\xbb\xbf" + string(text)),
			text[:rapid.IntRange(1, len(text)-1).Draw(t, "cut")], append(bytes.Clone(text), 'x'),
			append(bytes.Clone(text), text...),
			append(text[:len(text)-1:len(text)-1], ",}"...),
			append(text[:len(text)-1:len(text)-1], `,"x":`+strings.Repeat("[", 20)+strings.Repeat("]", 20)+"}"...),
			bytes.ReplaceAll(text, []byte(`"`), []byte(`'`)),
		}).Draw(t, "text")
	}},
	{"a JSON body that is too large", 413, hasJSON, func(_ *rapid.T, _ *world, c *call) {
		c.raw = append(c.bytes(), bytes.Repeat([]byte(" "), 512<<10)...)
	}},
	{"a body that is no protobuf", 400, operationsOf("sendMessages", "sendSealedMessages"),
		oneOf([]string{"\xff\xff\xff", "\x0a\x7f\x0a", "\x0a\x02\x0a\x7f", "\x0b", "{}", marker},
			func(_ *world, c *call, end string) { c.raw = append(c.raw, end...) })},
	{"too many submissions", 413, operationsOf("sendMessages", "sendSealedMessages"), func(_ *rapid.T, _ *world, c *call) {
		c.raw = bytes.Repeat([]byte("\x0a\x00"), 101)
	}},
	{"another media type", 415, hasBody,
		oneOf([]string{"text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=b",
			"application/xml",
			"application/*", "application/json-patch+json", "application", marker + "/" + marker},
			func(_ *world, c *call, media string) { c.header.Set("Content-Type", media) })},
	{"no media type", 415, notOctets, func(_ *rapid.T, _ *world, c *call) { c.header.Set("Content-Type", "") }},
	{"a content coding", 415, hasBody, oneOf([]string{"gzip", "br", marker}, func(_ *world, c *call, coding string) {
		c.header.Set("Content-Encoding", coding)
	})},

	{"no token", 401, guarded, func(_ *rapid.T, _ *world, c *call) { c.token = "" }},
	{"a token that is none", 401, guarded, oneOf([]string{marker, "a.b.c", " "}, func(_ *world, c *call, token string) {
		c.token = token
	})},
	{"a token that was changed", 401, guarded, func(t *rapid.T, _ *world, c *call) {
		at := rapid.IntRange(0, len(c.token)-2).Draw(t, "at") // the last letter may have bits that say nothing
		c.token = c.token[:at] + string(rapid.SampledFrom([]rune("AZaz09-_")).Filter(func(r rune) bool {
			return r != rune(c.token[at])
		}).Draw(t, "letter")) + c.token[at+1:]
	}},
	{"another scheme", 401, guarded, oneOf([]string{"Basic ", "", "Bearer"}, func(_ *world, c *call, scheme string) {
		c.header.Set("Authorization", scheme+c.token)
		c.token = ""
	})},
	{"the token of a session that has ended", 401, guarded, func(_ *rapid.T, w *world, c *call) { c.token = w.past }},
	{"the token of a user where a device must act", 403, func(o *operation) bool { return o.deviceScoped },
		func(_ *rapid.T, w *world, c *call) { c.token = w.self.User.Token }},

	{"a malformed id in the path", 400, inPath, func(t *rapid.T, _ *world, c *call) {
		for name, id := range c.ids {
			c.ids[name] = rapid.SampledFrom(malformedIDs(id)).Draw(t, "id")
		}
	}},
	{"an id that nobody has", 404, inPath, func(_ *rapid.T, _ *world, c *call) {
		for name := range c.ids {
			c.ids[name] = uuid.NewString()
		}
	}},
	{"a file that there is not", 404, operationsOf("getDocsFile"),
		oneOf([]string{marker, "index.html", "page.js.gz", "page.go"},
			func(_ *world, c *call, file string) { c.ids["name"] = file })},
	{"somebody else's device", 404, operationsOf("getDevice", "updateDevice", "deleteDevice"),
		func(_ *rapid.T, w *world, c *call) { c.ids["deviceId"] = w.peer.ID.String() }},
	{"a malformed Idempotency-Key", 400, inHeader, func(t *rapid.T, _ *world, c *call) {
		c.header.Set("Idempotency-Key", rapid.SampledFrom(malformedIDs(uuid.NewString())).Draw(t, "key"))
	}},

	{"a name that is taken", 409, operationsOf("createUser"), func(_ *rapid.T, w *world, c *call) {
		c.body.put("username", strings.ToUpper(w.self.User.Name))
	}},
	{"a wrong password", 401, operationsOf("createSession", "changePassword", "deleteAccount"),
		func(_ *rapid.T, w *world, c *call) {
			w.forgetWrongPasswords() // none has to wait
			for _, name := range []string{"password", "currentPassword"} {
				if c.body.get(name) != nil {
					c.body.put(name, marker+" is not it")
				}
			}
		}},
	{"a refresh token that is none", 401, operationsOf("refreshSession", "deleteSession"),
		func(_ *rapid.T, _ *world, c *call) { c.body.put("refreshToken", marker) }},
	{"no upgrade", 426, operationsOf("connectGateway"),
		oneOf([]string{"Connection", "Upgrade"}, func(_ *world, c *call, name string) { c.header.Del(name) })},
	{"a ticket that is none", 401, operationsOf("connectGateway"),
		oneOf([]string{"", "x", marker, strings.Repeat("x", 101)},
			func(_ *world, c *call, ticket string) { c.query.Set("ticket", ticket) })},
	{"the bearer token of a user at the gateway", 403, operationsOf("connectGateway"),
		func(_ *rapid.T, w *world, c *call) {
			c.query = nil
			c.token = w.self.User.Token
		}},
}
