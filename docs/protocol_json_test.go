package docs_test

import (
	"encoding/json"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
)

var (
	example   = regexp.MustCompile("(?s)<!-- json: (\\w+) (\\w+) -->\n```json\n(.*?)```\n")
	cutKyber  = regexp.MustCompile(`("publicKey": "C[^"…]*)…"`)
	cutSigned = regexp.MustCompile(`("signature": "[^"…]*)…"`)
)

// whole gives what an example cuts short its real length.
func whole(text string) string {
	pad := func(cut *regexp.Regexp, form string, start int) {
		text = cut.ReplaceAllStringFunc(text, func(found string) string {
			found = strings.TrimSuffix(found, `…"`)
			value := found[strings.LastIndex(found, `"`)+1:]
			return found + strings.Repeat("A", start-len(value)) + form + `"`
		})
	}
	pad(cutKyber, "", 2092)
	pad(cutSigned, "==", 86)
	return strings.ReplaceAll(text, "…", "")
}

func TestTheExamplesOfTheProtocolDocumentMatchTheContract(t *testing.T) {
	t.Parallel()
	contract := spec(t)
	closed := false
	for _, schema := range contract.Components.Schemas {
		if schema.Value.Type.Is("object") {
			schema.Value.AdditionalProperties = openapi3.AdditionalProperties{Has: &closed}
		}
	}
	operations := map[string]*openapi3.Operation{}
	for _, item := range contract.Paths.Map() {
		for _, op := range item.Operations() {
			operations[op.OperationID] = op
		}
	}
	seen := 0
	for _, m := range example.FindAllStringSubmatch(textOf(t, "protocol.md"), -1) {
		seen++
		op, name := operations[m[1]], m[1]+" "+m[2]
		if op == nil {
			t.Errorf("%s: no such operation", name)
			continue
		}
		var content openapi3.Content
		if m[2] == "request" {
			content = op.RequestBody.Value.Content
		} else if code, err := strconv.Atoi(m[2]); err == nil && op.Responses.Status(code) != nil {
			content = op.Responses.Status(code).Value.Content
		}
		if content["application/json"] == nil {
			t.Errorf("%s: the contract has no JSON there", name)
			continue
		}
		var value any
		if err := json.Unmarshal([]byte(whole(m[3])), &value); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if err := content["application/json"].Schema.Value.VisitJSON(value); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if marks := strings.Count(textOf(t, "protocol.md"), "```json"); seen == 0 || seen != marks {
		t.Errorf("%d of %d examples are checked", seen, marks)
	}
}

var diagram = regexp.MustCompile("(?s)```mermaid\n(.*?)```")

// A semicolon ends a statement in Mermaid, also within a message, and then nothing is drawn at all.
func TestTheDiagramsHaveNoSemicolons(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"protocol.md", "architecture.md"} {
		for _, m := range diagram.FindAllStringSubmatch(textOf(t, path), -1) {
			if strings.Contains(m[1], ";") {
				t.Errorf("%s: %s", path, m[1])
			}
		}
	}
}
