package docs_test

import (
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/obscura-relay/obscura/gen/api"
	"github.com/obscura-relay/obscura/gen/obscurapb"
)

func textOf(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func spec(t *testing.T) *openapi3.T {
	t.Helper()
	spec, err := api.GetSpec()
	if err != nil {
		t.Fatal(err)
	}
	return spec
}

// same fails the test unless the document has what there is, and nothing else.
func same[T any](t *testing.T, what string, documented, there map[string]T) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(there)) {
		if _, ok := documented[name]; !ok {
			t.Errorf("protocol.md does not have the %s %s", what, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(documented)) {
		if _, ok := there[name]; !ok {
			t.Errorf("protocol.md has the %s %s, which does not exist", what, name)
		}
	}
}

var (
	callRow = regexp.MustCompile("(?m)^\\| `([A-Z]+ /[^`]*)` \\| (\\w+) \\| ([^|]*) \\| ([^|]*)\\| ([^|]+) \\|$")
	status  = regexp.MustCompile(`\b[1-5]\d\d\b`)
	call    = regexp.MustCompile("`([A-Z]+ /[\\w/{}.-]*)`")
)

func TestTheProtocolDocumentHasEveryCall(t *testing.T) {
	t.Parallel()
	text := textOf(t, "protocol.md")
	rows, there, named := map[string][]string{}, map[string]*openapi3.Operation{}, map[string]bool{}
	for _, m := range callRow.FindAllStringSubmatch(text, -1) {
		rows[m[1]] = m
	}
	for _, m := range call.FindAllStringSubmatch(text, -1) {
		named[m[1]] = true
	}
	for path, item := range spec(t).Paths.Map() {
		for method, op := range item.Operations() {
			there[method+" "+path] = op
			if row := rows[method+" "+path]; row != nil {
				checkCall(t, row, op)
			}
		}
	}
	same(t, "row of the call", asSet(rows), asSet(there))
	same(t, "call", named, asSet(there))
}

func asSet[T any](m map[string]T) map[string]bool {
	set := map[string]bool{}
	for name := range m {
		set[name] = true
	}
	return set
}

// checkCall holds the row of a call against the contract: name, token, and the statuses that not every call has.
func checkCall(t *testing.T, row []string, op *openapi3.Operation) {
	t.Helper()
	token := "any"
	if device, _ := op.Extensions["x-device-scoped"].(bool); device {
		token = "device"
	}
	if op.Security != nil && len(*op.Security) == 0 {
		token = "none"
	}
	if op.OperationID == "connectGateway" {
		token = "ticket or device"
	}
	if op.Security != nil && len(*op.Security) == 2 {
		token = "device, or a delivery token"
	}
	if row[2] != op.OperationID || row[3] != token {
		t.Errorf("%s: operation %s, token %s; the contract has %s, %s", row[1], row[2], row[3], op.OperationID, token)
	}
	common := []string{"408", "429", "431", "500", "503"}
	if op.RequestBody != nil {
		common = append(common, "400", "413", "415")
	}
	if len(op.Parameters) > 0 {
		common = append(common, "400")
	}
	if token != "none" {
		common = append(common, "401")
	}
	if strings.Contains(token, "device") {
		common = append(common, "403")
	}
	declared := map[string]bool{}
	for code := range op.Responses.Map() {
		if code >= "400" {
			declared[code] = true
		}
	}
	own := map[string]bool{}
	for _, code := range status.FindAllString(row[4], -1) {
		own[code] = true
		if !declared[code] {
			t.Errorf("%s: %s is documented and not declared", row[1], code)
		}
	}
	for code := range declared {
		if !own[code] && !slices.Contains(common, code) {
			t.Errorf("%s: %s is declared and not documented", row[1], code)
		}
	}
}

var statusRow = regexp.MustCompile(`(?m)^\| ([\d, ]+) \| [A-Z]`)

func TestTheProtocolDocumentSaysWhatToDoAtEveryStatus(t *testing.T) {
	t.Parallel()
	documented, there := map[string]bool{}, map[string]bool{}
	for _, m := range statusRow.FindAllStringSubmatch(textOf(t, "protocol.md"), -1) {
		for code := range strings.SplitSeq(m[1], ", ") {
			documented[code] = true
		}
	}
	for _, item := range spec(t).Paths.Map() {
		for _, op := range item.Operations() {
			for code := range op.Responses.Map() {
				there[code] = true
			}
		}
	}
	there["405"], there["411"] = true, true // of no operation: another method, and a request without a length
	same(t, "status", documented, there)
}

var word = regexp.MustCompile(`[\w-]+`)
var code = regexp.MustCompile("(?s)```.*?```|`[^`]*`")

func TestTheProtocolDocumentNamesEveryMemberAndParameter(t *testing.T) {
	t.Parallel()
	words := map[string]bool{}
	for _, span := range code.FindAllString(textOf(t, "protocol.md"), -1) {
		for _, w := range word.FindAllString(span, -1) {
			words[w] = true
		}
	}
	components := spec(t).Components
	for name, schema := range components.Schemas {
		for member := range schema.Value.Properties {
			if !words[member] {
				t.Errorf("protocol.md does not name %s of %s", member, name)
			}
		}
	}
	for _, parameter := range components.Parameters {
		if !words[parameter.Value.Name] {
			t.Errorf("protocol.md does not name the parameter %s", parameter.Value.Name)
		}
	}
}

func TestTheProtocolDocumentHasEveryFrameMemberAndValue(t *testing.T) {
	t.Parallel()
	text := textOf(t, "protocol.md")
	file := obscurapb.File_obscura_proto
	for i := range file.Messages().Len() {
		m := file.Messages().Get(i)
		for j := range m.Fields().Len() {
			f := m.Fields().Get(j)
			name, number := string(f.Name()), strconv.Itoa(int(f.Number()))
			if !strings.Contains(text, name+" = "+number) && !strings.Contains(text, "`"+name+"` = "+number) &&
				!strings.Contains(text, "`"+name+"` ("+number) {
				t.Errorf("protocol.md does not have %s = %s of %s", name, number, m.Name())
			}
		}
		for j := range m.Enums().Len() {
			checkEnum(t, text, m.Enums().Get(j), "REASON_")
		}
	}
	for i := range file.Enums().Len() {
		checkEnum(t, text, file.Enums().Get(i), "ERROR_CODE_")
	}
	shown := map[string]bool{}
	for name, data := range documented(t) {
		if !strings.HasPrefix(name, "send ") {
			frame := decode(t, data).ProtoReflect()
			shown[string(frame.WhichOneof(frame.Descriptor().Oneofs().ByName("payload")).Name())] = true
		}
	}
	frames, there := (&obscurapb.WebSocketFrame{}).ProtoReflect().Descriptor().Fields(), map[string]bool{}
	for i := range frames.Len() {
		there[string(frames.Get(i).Name())] = true
	}
	same(t, "dump of the frame", shown, there)
}

func checkEnum(t *testing.T, text string, enum protoreflect.EnumDescriptor, prefix string) {
	t.Helper()
	for i := range enum.Values().Len() {
		value := enum.Values().Get(i)
		short := strings.TrimPrefix(string(value.Name()), prefix)
		if want := strconv.Itoa(int(value.Number())) + " " + short; value.Number() != 0 &&
			!strings.Contains(text, want) {
			t.Errorf("protocol.md does not have %s of %s", want, enum.Name())
		}
	}
}

var (
	closeConstant = regexp.MustCompile(`(?m)^\tclose(?:GoingAway|Policy|[A-Z]\w*) += (websocket\.Close\w+|\d+)`)
	closeRow      = regexp.MustCompile(`(?m)^\| (\d{4})\b[^|]*\|`)
	closeSentence = regexp.MustCompile(`(?s)Close codes: (.*)`)
	fourDigits    = regexp.MustCompile(`\b\d{4}\b`)
)

func TestTheProtocolDocumentHasEveryCloseCode(t *testing.T) {
	t.Parallel()
	standard := map[string]string{"websocket.CloseGoingAway": "1001", "websocket.ClosePolicyViolation": "1008",
		"websocket.CloseInternalServerErr": "1011", "websocket.CloseServiceRestart": "1012",
		"websocket.CloseMessageTooBig": "1009", "websocket.CloseMessage": ""}
	there := map[string]bool{}
	for _, m := range closeConstant.FindAllStringSubmatch(textOf(t, "../internal/gateway/socket.go"), -1) {
		if name, ok := standard[m[1]]; ok {
			m[1] = name
		}
		if m[1] != "" {
			there[m[1]] = true
		}
	}
	if len(there) < 5 {
		t.Errorf("found only %v in the source", there)
	}
	contract := map[string]bool{}
	sentence := closeSentence.FindString(spec(t).Paths.Find("/v1/gateway").Get.Description)
	for _, number := range fourDigits.FindAllString(sentence, -1) {
		contract[number] = true
	}
	same(t, "close code (in openapi.yaml)", contract, there)
	there["1006"] = true // what libraries call the absence of one
	documented := map[string]bool{}
	for _, m := range closeRow.FindAllStringSubmatch(textOf(t, "protocol.md"), -1) {
		documented[m[1]] = true
	}
	same(t, "close code", documented, there)
}

// The forms in which the source makes an error: of a kind, or of a status.
var (
	ofKind   = regexp.MustCompile(`(?:NewError\(core\.|Kind: (?:core\.)?)(\w+), (?:Code: )?"([a-z_]+)"`)
	ofStatus = regexp.MustCompile(`http\.Status(\w+): +\{Code: "([a-z_]+)"`)
	anyCode  = regexp.MustCompile(`(?:NewError\(core\.\w+, |Code: +)"([a-z_]+)"`)
	codeRow  = regexp.MustCompile("(?m)^\\| (\\d{3}) \\| ((?:`[a-z_]+`(?:, )?)+) \\|")
	codeName = regexp.MustCompile("`([a-z_]+)`")
)

var statusOf = map[string]int{"Invalid": 400, "Unauthorized": 401, "Forbidden": 403, "NotFound": 404, "Conflict": 409,
	"Unmet": 412, "TooLarge": 413, "Limited": 429, "Unavailable": 503,
	"BadRequest": http.StatusBadRequest, "MethodNotAllowed": http.StatusMethodNotAllowed,
	"RequestTimeout": http.StatusRequestTimeout,
	"LengthRequired": http.StatusLengthRequired, "RequestEntityTooLarge": http.StatusRequestEntityTooLarge,
	"UpgradeRequired":              http.StatusUpgradeRequired,
	"RequestedRangeNotSatisfiable": http.StatusRequestedRangeNotSatisfiable,
	"RequestHeaderFieldsTooLarge":  http.StatusRequestHeaderFieldsTooLarge}

func TestTheProtocolDocumentHasEveryErrorCodeWithItsStatus(t *testing.T) {
	t.Parallel()
	documented, there, codes := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, m := range codeRow.FindAllStringSubmatch(textOf(t, "protocol.md"), -1) {
		for _, name := range codeName.FindAllStringSubmatch(m[2], -1) {
			documented[m[1]+" "+name[1]] = true
		}
	}
	for _, dir := range []string{"api", "core", "storage", "gateway"} {
		err := filepath.WalkDir(filepath.Join("../internal", dir), func(path string, _ fs.DirEntry, err error) error {
			if err != nil || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
				return err
			}
			source := textOf(t, path)
			for _, m := range append(ofKind.FindAllStringSubmatch(source, -1),
				ofStatus.FindAllStringSubmatch(source, -1)...) {
				if statusOf[m[1]] == 0 {
					t.Errorf("%s: what status has %s?", path, m[1])
				}
				there[strconv.Itoa(statusOf[m[1]])+" "+m[2]] = true
			}
			for _, m := range anyCode.FindAllStringSubmatch(source, -1) {
				codes[m[1]] = true
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	// The two whose status their kind does not say.
	delete(there, "400 unsupported_media_type")
	there["415 unsupported_media_type"], there["500 internal"] = true, true
	same(t, "error code", documented, there)
	withStatus := map[string]bool{}
	for name := range there {
		withStatus[name[len("400 "):]] = true
	}
	for name := range codes {
		if !withStatus[name] {
			t.Errorf("the source makes the error code %s in a form that this test does not know", name)
		}
	}
	if len(codes) < 30 {
		t.Errorf("found only %d error codes in the source", len(codes))
	}
}
