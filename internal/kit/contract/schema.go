package contract

import (
	"sync"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/obscura-relay/obscura"
	"github.com/obscura-relay/obscura/gen/obscurapb"
)

// Document reads the embedded contract.
func Document() (*openapi3.T, error) { return openapi3.NewLoader().LoadFromData(obscura.OpenAPI) }

// router finds the operations of the contract as it is written, or closed.
func router(grown bool) (routers.Router, error) {
	if grown {
		return written()
	}
	return closed()
}

var written = sync.OnceValues(func() (routers.Router, error) {
	document, err := Document()
	if err != nil {
		return nil, err
	}
	return legacy.NewRouter(document)
})

// closed is the contract, closed: a member that a schema does not name is an error.
var closed = sync.OnceValues(func() (routers.Router, error) {
	spec, err := Document()
	if err != nil {
		return nil, err
	}
	for _, schema := range spec.Components.Schemas {
		closeSchema(schema.Value)
	}
	for _, item := range spec.Paths.Map() {
		for _, operation := range item.Operations() {
			for _, response := range operation.Responses.Map() {
				for _, media := range response.Value.Content {
					closeSchema(media.Schema.Value)
				}
			}
		}
	}
	return legacy.NewRouter(spec)
})

// closeSchema forbids in a schema, and in those inside it, what they do not name. A schema that is
// composed of others is as closed as they are.
func closeSchema(s *openapi3.Schema) {
	if s.Type.Is("object") && len(s.AllOf) == 0 {
		if s.AdditionalProperties.Has != nil || s.AdditionalProperties.Schema != nil {
			return // it says itself what else may be there, or was seen to before
		}
		no := false
		s.AdditionalProperties.Has = &no
	}
	for _, property := range s.Properties {
		closeSchema(property.Value)
	}
	if s.Items != nil {
		closeSchema(s.Items.Value)
	}
	for _, part := range s.AllOf {
		closeSchema(part.Value)
	}
}

// canonicalUUID is the text form of RFC 9562. kin-openapi takes others for UUIDs too.
var canonicalUUID = openapi3.NewRegexpFormatValidator(
	`^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$`)

// protobufBodies are the messages in the protobuf answers of operations.
var protobufBodies = map[string]proto.Message{"sendMessages": (*obscurapb.SendMessageResponse)(nil),
	"sendSealedMessages": (*obscurapb.SendMessageResponse)(nil)}

// Undeclared reports whether a message holds fields that obscura.proto does not name.
func Undeclared(m proto.Message) bool { return undeclared(m.ProtoReflect()) }

func undeclared(m protoreflect.Message) bool {
	found := len(m.GetUnknown()) > 0
	m.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch {
		case field.Message() == nil:
		case field.IsList():
			for i := range value.List().Len() {
				found = found || undeclared(value.List().Get(i).Message())
			}
		default:
			found = found || undeclared(value.Message())
		}
		return !found
	})
	return found
}
