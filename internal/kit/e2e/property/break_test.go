package property_test

import (
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"pgregory.net/rapid"
)

// fault breaks a good request in one place.
type fault struct {
	name string
	// status is what the relay must answer.
	status int
	// fits says which operations can be broken so.
	fits func(*operation) bool
	// apply breaks a request that has everything that may be there.
	apply func(t *rapid.T, w *world, c *call)
}

// inBody is a fault of one value in a JSON body, whose schema is of a kind.
func inBody(name string, of func(*openapi3.Schema) bool, breakIt func(t *rapid.T, n *node)) fault {
	var within func(s *openapi3.Schema) bool
	within = func(s *openapi3.Schema) bool {
		found := of(s) || s.Items != nil && within(s.Items.Value)
		for _, property := range s.Properties {
			found = found || within(property.Value)
		}
		return found
	}
	return fault{name, 400, func(o *operation) bool { return o.schema != nil && within(o.schema) },
		func(t *rapid.T, _ *world, c *call) {
			var places []*node
			c.body.each(func(n *node) {
				if n.schema != nil && of(n.schema) {
					places = append(places, n)
				}
			})
			breakIt(t, rapid.SampledFrom(places).Draw(t, "place"))
		}}
}

// oneOf makes a fault of one of several values.
func oneOf[V any](values []V, apply func(w *world, c *call, value V)) func(*rapid.T, *world, *call) {
	return func(t *rapid.T, w *world, c *call) { apply(w, c, rapid.SampledFrom(values).Draw(t, "value")) }
}

var faultsOfBodies = []fault{
	inBody("another type", func(*openapi3.Schema) bool { return true }, func(t *rapid.T, n *node) {
		values := map[string]any{"string": marker, "integer": json.Number("7"), "boolean": true,
			"object": map[string]any{}, "array": []any{}}
		kinds := []string{"array", "boolean", "integer", "object", "string"}
		kinds = slices.DeleteFunc(kinds, n.schema.Type.Includes)
		*n = *toNode(values[rapid.SampledFrom(kinds).Draw(t, "type")], n.schema)
	}),
	inBody("a required member that is missing, or null", func(s *openapi3.Schema) bool {
		return len(s.Required) > 0
	}, func(t *rapid.T, n *node) {
		name := rapid.SampledFrom(n.schema.Required).Draw(t, "member")
		n.members = slices.DeleteFunc(n.members, func(m member) bool { return m.name == name })
		if rapid.Bool().Draw(t, "null") {
			n.members = append(n.members, member{name, &node{}})
		}
	}),
	inBody("a member twice", func(s *openapi3.Schema) bool { return len(s.Properties) > 0 }, func(t *rapid.T, n *node) {
		twice := rapid.SampledFrom(n.members).Draw(t, "member")
		if rapid.Bool().Draw(t, "in capitals") {
			twice.name = strings.ToUpper(twice.name)
		}
		if rapid.Bool().Draw(t, "another value") {
			twice.value = &node{scalar: marker}
		}
		n.members = slices.Insert(n.members, rapid.IntRange(0, len(n.members)).Draw(t, "at"), twice)
	}),
	inBody("null in a list", func(s *openapi3.Schema) bool { return s.Items != nil },
		func(_ *rapid.T, n *node) { n.items = append(n.items, &node{}) }),
	inBody("a list that is too long", func(s *openapi3.Schema) bool { return s.MaxItems != nil },
		func(_ *rapid.T, n *node) { n.items = slices.Repeat(n.items[:1], int(*n.schema.MaxItems)+1) }),
	inBody("a text that is too long", func(s *openapi3.Schema) bool {
		return s.MaxLength != nil
	}, func(t *rapid.T, n *node) {
		n.scalar = marker + strings.Repeat("x", int(*n.schema.MaxLength)-len(marker)+rapid.IntRange(1, 500).Draw(t,
			"more"))
	}),
	inBody("a text that is too short", func(s *openapi3.Schema) bool { return s.MinLength > 0 },
		func(_ *rapid.T, n *node) { n.scalar = strings.Repeat("é", int(n.schema.MinLength)-1) }),
	inBody("a text of another form", func(s *openapi3.Schema) bool {
		return s.Pattern != "" || s.Format != "" && s.Type.Includes("string")
	},
		func(t *rapid.T, n *node) {
			text := []rune(n.scalar.(string))
			at := rapid.IntRange(0, len(text)).Draw(t, "at")
			n.scalar = string(text[:at]) + rapid.SampledFrom([]string{" ", "-", "!", "\n", "é", "=", "\x00",
				marker + "."}).Draw(t, "stray") + string(text[at:])
		}),
	inBody("a number out of range", func(s *openapi3.Schema) bool {
		return s.Type.Includes("integer")
	}, func(t *rapid.T, n *node) {
		n.scalar = json.Number(rapid.SampledFrom([]string{"-1", "-2147483649", "2147483648", "9223372036854775808",
			"1.5", "1e30", "-1e300"}).Draw(t, "number"))
	}),
	inBody("a signature that does not fit", func(s *openapi3.Schema) bool {
		return s.Properties["signature"] != nil
	}, func(t *rapid.T, n *node) {
		text, _ := n.get("signature").scalar.(string)
		signature, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		signature[rapid.IntRange(0, len(signature)-1).Draw(t, "byte")] ^= 1 << rapid.IntRange(0, 6).Draw(t, "bit")
		n.put("signature", signature)
	}),
	inBody("a key of another type", func(s *openapi3.Schema) bool {
		return s.Properties["publicKey"] != nil || s.Properties["identityKey"] != nil
	},
		func(t *rapid.T, n *node) {
			name := "publicKey"
			if n.schema.Properties[name] == nil {
				name = "identityKey"
			}
			text, _ := n.get(name).scalar.(string)
			key, err := base64.StdEncoding.DecodeString(text)
			if err != nil {
				t.Fatal(err)
			}
			key[0] ^= rapid.ByteRange(1, 255).Draw(t, "type")
			n.put(name, key)
		}),
}
