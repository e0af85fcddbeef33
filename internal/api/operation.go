package api

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"sync"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/obscura-relay/obscura/gen/api"
)

// operation is what the guard knows of one operation of the contract.
type operation struct {
	// id labels logs and metrics.
	id string
	// public operations need no token; deviceScoped ones need one of a device.
	public, deviceScoped bool
	// unnamed operations take a delivery token in the header of that name as well.
	unnamed bool
	// limits count its requests; none when rate limits are off.
	limits []*counter
	// media is the Content-Type of the body, "" when there is none; schema validates a JSON body,
	// whose members have names; parameters validate the rest.
	media      string
	schema     *openapi3.Schema
	names      map[string]bool
	parameters []*openapi3.Parameter
}

const (
	mediaJSON     = "application/json"
	mediaProtobuf = "application/x-protobuf"
	mediaOctets   = "application/octet-stream"
)

// sealed reports that the delivery tokens in the body are all that tells who may do it.
func (o *operation) sealed() bool { return o.public && o.media == mediaProtobuf }

var pathParameter = regexp.MustCompile(`\{(\w+)\}`)

// contract is the embedded contract, which nobody may change: it is read once for all servers of a
// process.
var contract = sync.OnceValues(func() (*openapi3.T, error) {
	spec, err := api.GetSpec()
	if err != nil {
		return nil, fmt.Errorf("the embedded contract cannot be read: %w", err)
	}
	if err := spec.Validate(context.Background()); err != nil { // a pattern that does not compile, for one
		return nil, fmt.Errorf("the embedded contract is not valid: %w", err)
	}
	return spec, nil
})

// loadOperations takes the operations out of the contract. The keys are as Fiber names its routes:
// "GET /v1/users/:userId".
func loadOperations(spec *openapi3.T) map[string]*operation {
	operations := map[string]*operation{}
	for path, item := range spec.Paths.Map() {
		route := pathParameter.ReplaceAllString(path, ":$1")
		for method, op := range item.Operations() {
			o := &operation{id: op.OperationID, public: op.Security != nil && len(*op.Security) == 0}
			if op.Security != nil {
				for _, way := range *op.Security {
					_, takes := way["deliveryToken"]
					o.unnamed = o.unnamed || takes
				}
			}
			o.deviceScoped, _ = op.Extensions["x-device-scoped"].(bool)
			for _, list := range []openapi3.Parameters{item.Parameters, op.Parameters} {
				for _, p := range list {
					o.parameters = append(o.parameters, p.Value)
				}
			}
			if op.RequestBody != nil {
				for media, content := range op.RequestBody.Value.Content {
					o.media = media
					if media == mediaJSON {
						o.schema, o.names = content.Schema.Value, map[string]bool{}
						collectNames(o.schema, o.names)
					}
				}
			}
			operations[strings.ToUpper(method)+" "+route] = o
		}
	}
	return operations
}

// collectNames adds the folded names of all members that the schema knows, at any depth. Schemas of
// bodies do not contain themselves.
func collectNames(schema *openapi3.Schema, names map[string]bool) {
	for name, member := range schema.Properties {
		names[foldName(name)] = true
		collectNames(member.Value, names)
	}
	if schema.Items != nil {
		collectNames(schema.Items.Value, names)
	}
	for _, part := range schema.AllOf {
		collectNames(part.Value, names)
	}
}
