package conform

import (
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/obscura-relay/obscura/gen/obscurapb"
)

var listFaults = []fault{
	{"the version of a list stays", "lists.devices lists.version",
		answering("GET /v1/users/{id}/devices", func(_ *ask, r *reply) *reply {
			return r.change(func(m map[string]any) { m["devicesVersion"] = 1 })
		})},
	{"all bundles are handed out, whichever were named", "lists.named-bundles",
		standing("GET /v1/users/{id}", func(a *ask, forward func(*ask) *reply) *reply {
			a.query = ""
			return forward(a)
		})},
	{"prefixes are not looked at", "messages.shared-body",
		standing(sending, func(a *ask, forward func(*ask) *reply) *reply {
			var request obscurapb.SendMessageRequest
			if proto.Unmarshal(a.body, &request) != nil || len(request.GetShared()) == 0 {
				return forward(a)
			}
			for _, shared := range request.GetShared() {
				for _, r := range shared.GetRecipients() {
					r.Prefix = nil
				}
			}
			return forward(a.with(encodeRequest(&request)))
		})},
	{"quiet mail is not kept", "messages.quiet",
		standing(sending, func(a *ask, forward func(*ask) *reply) *reply {
			var request obscurapb.SendMessageRequest
			if proto.Unmarshal(a.body, &request) != nil {
				return forward(a)
			}
			all := len(request.GetMessages())
			request.Messages = slices.DeleteFunc(request.GetMessages(), (*obscurapb.Submission).GetQuiet)
			if len(request.GetMessages()) == all {
				return forward(a)
			}
			return forward(a.with(encodeRequest(&request)))
		})},
	{"audiences are not looked at", "lists.audience",
		standing(sending, func(a *ask, forward func(*ask) *reply) *reply {
			var request obscurapb.SendMessageRequest
			if proto.Unmarshal(a.body, &request) != nil || len(request.GetAudiences()) == 0 {
				return forward(a)
			}
			request.Audiences = nil
			return forward(a.with(encodeRequest(&request)))
		})},
}
