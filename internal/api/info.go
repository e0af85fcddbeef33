package api

import (
	"context"
	"time"

	"github.com/obscura-relay/obscura/gen/api"
	"github.com/obscura-relay/obscura/internal/core"
)

// limitsOfContract are those that a client asks for before it sends.
var limitsOfContract = api.InfoLimits{
	MessageBytes:      core.MaxMessage,
	Submissions:       core.MaxSubmissions,
	SendBytes:         core.MaxSendBody,
	Recipients:        core.MaxRecipients,
	ExpandedBytes:     core.MaxExpanded,
	PrefixBytes:       core.MaxPrefix,
	Audiences:         core.MaxAudiences,
	MailboxEnvelopes:  core.MailboxCap,
	EnvelopeSeconds:   int32(core.EnvelopeLifetime / time.Second),
	Devices:           core.MaxDevices,
	PreKeys:           core.MaxPreKeys,
	DeliveryTokens:    core.MaxDeliveryTokens,
	AttachmentBytes:   core.MaxAttachment,
	AttachmentSeconds: int32(core.AttachmentLifetime / time.Second),
	BackupBytes:       core.MaxBackup,
}

// newInfo is the answer to everybody: who may register, and what fits.
func newInfo(version string, registration core.Registration) api.Info {
	return api.Info{Registration: api.InfoRegistration(registration), APIVersion: version, Limits: limitsOfContract}
}

// GetInfo says who may register, and what fits.
func (s *server) GetInfo(context.Context, api.GetInfoRequestObject) (api.GetInfoResponseObject, error) {
	return api.GetInfo200JSONResponse{Body: s.info}, nil
}
