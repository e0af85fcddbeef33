package property_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/uuid"
	"pgregory.net/rapid"
)

// node is a JSON value beside the schema that it was drawn from. It can be what encoding/json
// cannot write: an object that names a member twice.
type node struct {
	schema  *openapi3.Schema // nil for what no schema names
	members []member         // of an object
	items   []*node          // of a list
	scalar  any              // of anything else: a text, a json.Number, a bool, nil
}

type member struct {
	name  string
	value *node
}

// write appends the value as JSON.
func (n *node) write(b *bytes.Buffer) {
	switch {
	case n.members != nil:
		b.WriteByte('{')
		for i, m := range n.members {
			if i > 0 {
				b.WriteByte(',')
			}
			writeScalar(b, m.name)
			b.WriteByte(':')
			m.value.write(b)
		}
		b.WriteByte('}')
	case n.items != nil:
		b.WriteByte('[')
		for i, item := range n.items {
			if i > 0 {
				b.WriteByte(',')
			}
			item.write(b)
		}
		b.WriteByte(']')
	default:
		writeScalar(b, n.scalar)
	}
}

func writeScalar(b *bytes.Buffer, v any) {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	b.Write(text)
}

// each visits the value and everything inside it.
func (n *node) each(visit func(n *node)) {
	visit(n)
	for _, m := range n.members {
		m.value.each(visit)
	}
	for _, item := range n.items {
		item.each(visit)
	}
}

// get returns a member, nil when it is absent or null.
func (n *node) get(name string) *node {
	for _, m := range n.members {
		if m.name == name && (m.value.scalar != nil || m.value.members != nil || m.value.items != nil) {
			return m.value
		}
	}
	return nil
}

// put sets a member to a value that encoding/json can write.
func (n *node) put(name string, value any) {
	text, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var plain any
	if err := decoder.Decode(&plain); err != nil {
		panic(err)
	}
	n.members = slices.DeleteFunc(n.members, func(m member) bool { return m.name == name })
	n.members = append(n.members, member{name, toNode(plain, n.schema.Properties[name].Value)})
}

// toNode makes a node of what encoding/json decodes. What the schema does not name has none.
func toNode(plain any, schema *openapi3.Schema) *node {
	n := &node{schema: schema}
	switch v := plain.(type) {
	case map[string]any:
		n.members = []member{}
		for _, name := range slices.Sorted(maps.Keys(v)) {
			var inner *openapi3.Schema
			if schema != nil && schema.Properties[name] != nil {
				inner = schema.Properties[name].Value
			}
			n.members = append(n.members, member{name, toNode(v[name], inner)})
		}
	case []any:
		n.items = []*node{}
		for _, value := range v {
			var inner *openapi3.Schema
			if schema != nil && schema.Items != nil {
				inner = schema.Items.Value
			}
			n.items = append(n.items, toNode(value, inner))
		}
	default:
		n.scalar = v
	}
	return n
}

// draw draws a value that the schema allows. A full one has every member and no empty list.
func draw(t *rapid.T, s *openapi3.Schema, full bool) *node {
	n := &node{schema: s}
	switch {
	case s.Type.Is("object"):
		n.members = []member{}
		names := make([]string, 0, len(s.Properties))
		for name := range s.Properties {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range rapid.Permutation(names).Draw(t, "order") {
			required := slices.Contains(s.Required, name)
			how := rapid.IntRange(0, 5).Draw(t, "how "+name)
			if !required && !full && how < 2 {
				continue
			}
			value := &node{schema: s.Properties[name].Value}
			if required || full || how != 2 { // a member that is null counts as absent
				value = draw(t, s.Properties[name].Value, full)
			}
			n.members = append(n.members, member{name, value})
		}
	case s.Type.Is("array"):
		n.items = []*node{}
		most := min(int(*s.MaxItems), 3)
		if !full && rapid.IntRange(0, 19).Draw(t, "many") == 0 {
			most = int(*s.MaxItems)
		}
		least := 0
		if full {
			least = 1
		}
		for range rapid.IntRange(least, most).Draw(t, "items") {
			n.items = append(n.items, draw(t, s.Items.Value, full))
		}
	case s.Type.Is("integer"):
		low, high := int64(*s.Min), int64(*s.Max)
		n.scalar = json.Number(strconv.FormatInt(rapid.OneOf(rapid.Int64Range(low, high), rapid.Just(low),
			rapid.Just(high)).Draw(t, "number"), 10))
	case s.Type.Is("string"):
		n.scalar = drawText(t, s)
	default:
		t.Fatalf("nobody draws this kind of schema yet: %v", s.Type)
	}
	return n
}

func drawText(t *rapid.T, s *openapi3.Schema) string {
	most := 300
	if s.MaxLength != nil {
		most = int(*s.MaxLength)
	}
	least := int(s.MinLength)
	switch {
	case s.Format == "uuid":
		return uuid.UUID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "uuid")).String()
	case s.Format == "byte" && least > 0:
		return base64.StdEncoding.EncodeToString(bytes.Repeat(rapid.SliceOfN(rapid.Byte(), 3, 3).Draw(t, "bytes"),
			least/4))
	case s.Pattern != "":
		return rapid.StringMatching(s.Pattern).Draw(t, "matching")
	}
	length := rapid.OneOf(rapid.IntRange(least, min(least+20, most)), rapid.Just(least), rapid.Just(most)).Draw(t,
		"length")
	// what cannot be stored is refused
	return strings.ReplaceAll(rapid.StringN(length, length, -1).Draw(t, "text"), "\x00", "0")
}
