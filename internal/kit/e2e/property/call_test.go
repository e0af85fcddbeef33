package property_test

import (
	"bytes"
	"cmp"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"pgregory.net/rapid"

	"github.com/obscura-relay/obscura/gen/api"
	"github.com/obscura-relay/obscura/internal/kit/contract"
	"github.com/obscura-relay/obscura/internal/kit/e2e"
)

// operation is one of the contract.
type operation struct {
	*openapi3.Operation
	method, path         string
	public, deviceScoped bool
	media                string           // of the body; "" when there is none
	schema               *openapi3.Schema // of a JSON body
}

// operations reads the contract.
func operations() ([]*operation, error) {
	spec, err := api.GetSpec()
	if err != nil {
		return nil, err
	}
	var all []*operation
	for _, path := range slices.Sorted(maps.Keys(spec.Paths.Map())) {
		item := spec.Paths.Map()[path].Operations()
		for _, method := range slices.Sorted(maps.Keys(item)) {
			o := &operation{Operation: item[method], method: method, path: path}
			o.public = o.Security != nil && len(*o.Security) == 0
			o.deviceScoped, _ = o.Extensions["x-device-scoped"].(bool)
			if o.RequestBody != nil {
				for media, content := range o.RequestBody.Value.Content {
					o.media = media
					if media == "application/json" {
						o.schema = content.Schema.Value
					}
				}
			}
			all = append(all, o)
		}
	}
	return all, nil
}

// call is a request to an operation, in parts that can be broken one by one.
type call struct {
	*operation
	ids    map[string]string // in the path
	query  url.Values
	header http.Header
	token  string
	body   *node  // a JSON body
	raw    []byte // a body as it is, in its place
	// accepted hears of a success: the world has changed.
	accepted func(e2e.Reply)
}

// drawCall draws a request by the contract alone. A full one has everything that may be there.
func drawCall(t *rapid.T, w *world, o *operation, full bool) *call {
	c := &call{operation: o, ids: map[string]string{}, query: url.Values{}, header: http.Header{},
		accepted: func(e2e.Reply) {}}
	for _, p := range o.Parameters {
		if !p.Value.Required && !full && rapid.Bool().Draw(t, "without "+p.Value.Name) {
			continue
		}
		switch value := drawText(t, p.Value.Schema.Value); p.Value.In {
		case "path":
			c.ids[p.Value.Name] = cmp.Or(value, "x") // an empty one is another path
		case "query":
			c.query.Set(p.Value.Name, value)
		case "header":
			c.header.Set(p.Value.Name, strings.Map(inHeaders, value))
		}
	}
	switch {
	case o.schema != nil:
		c.body = draw(t, o.schema, full)
	case o.media != "":
		c.raw = rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(t, "bytes")
	}
	if o.media != "" {
		c.header.Set("Content-Type", o.media)
	}
	if !o.public {
		c.token = w.self.Token
		if !o.deviceScoped && rapid.Bool().Draw(t, "as the user") {
			c.token = w.self.User.Token
		}
	}
	return c
}

// inHeaders keeps what our HTTP client lets into a header.
func inHeaders(r rune) rune {
	if r < ' ' || r == 0x7f {
		return -1
	}
	return r
}

// send sends it, and holds the answer against the contract and against what must never come back.
func (c *call) send(t *rapid.T, w *world) e2e.Reply {
	path := c.path
	for name, id := range c.ids {
		path = strings.ReplaceAll(path, "{"+name+"}", url.PathEscape(id))
	}
	if len(c.query) > 0 {
		path += "?" + c.query.Encode()
	}
	request, err := http.NewRequestWithContext(w.Context(), c.method, w.relay.API+path, bytes.NewReader(c.bytes()))
	if err != nil {
		t.Fatal(err)
	}
	request.Header = c.header.Clone()
	if c.token != "" {
		request.Header.Set("Authorization", "Bearer "+c.token)
	}
	response, err := w.http.Do(request)
	if err != nil {
		t.Fatalf("%s: %v", c.OperationID, err)
	}
	defer func() { _ = response.Body.Close() }()
	r := e2e.Reply{Status: response.StatusCode, Header: response.Header}
	if r.Status != http.StatusSwitchingProtocols {
		if r.Body, err = io.ReadAll(response.Body); err != nil {
			t.Fatalf("%s: %v", c.OperationID, err)
		}
	}
	for _, sentence := range contract.Check(request, response, r.Body) {
		t.Errorf("%s", sentence)
	}
	if r.Status >= http.StatusInternalServerError {
		t.Errorf("%s: status %d, %s", c.OperationID, r.Status, r.Body)
	}
	c.checkEcho(t, request, r)
	return r
}

func (c *call) bytes() []byte {
	if c.body == nil || c.raw != nil {
		return c.raw
	}
	var b bytes.Buffer
	c.body.write(&b)
	return b.Bytes()
}

// ofProtocol are header fields that the answer may well repeat.
var ofProtocol = []string{"Content-Type", "Connection", "Upgrade", "Sec-Websocket-Version", "X-Request-Id"}

// checkEcho looks in an answer for what was sent: anything in an error, secrets in every answer. (A
// token that was good may come back in the pair that replaces it: two of one second are the same.)
func (c *call) checkEcho(t *rapid.T, request *http.Request, r e2e.Reply) {
	secrets := []string{c.query.Get("ticket")}
	given := slices.Collect(maps.Values(c.ids))
	for name, values := range request.Header {
		if !slices.Contains(ofProtocol, name) {
			given = append(given, strings.TrimPrefix(values[0], "Bearer "))
		}
	}
	if c.body != nil {
		c.body.each(func(n *node) {
			if text, ok := n.scalar.(string); ok {
				given = append(given, text)
			}
			for _, m := range n.members {
				text, ok := m.value.scalar.(string)
				if ok && (strings.Contains(strings.ToLower(m.name), "password") || m.name == "refreshToken") {
					secrets = append(secrets, text)
				}
				if strings.Contains(m.name, marker) {
					given = append(given, m.name)
				}
			}
		})
	} else if len(c.raw) > 0 {
		given = append(given, string(c.raw))
	}
	if r.Status >= http.StatusBadRequest {
		secrets = append(secrets, given...)
	}
	var head strings.Builder
	_ = r.Header.Write(&head)
	where := head.String() + string(r.Body)
	for _, secret := range secrets {
		if len(secret) >= 8 && strings.Contains(where, secret) {
			t.Errorf("%s, status %d: %q comes back: %s", c.OperationID, r.Status, secret, where)
		}
	}
}
