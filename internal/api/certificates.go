package api

import (
	"context"

	"github.com/obscura-relay/obscura/gen/api"
)

// GetSenderCertificate certifies the device that asks.
func (s *server) GetSenderCertificate(ctx context.Context,
	_ api.GetSenderCertificateRequestObject) (api.GetSenderCertificateResponseObject, error) {
	c, err := s.cfg.Certificates.Sender(ctx, principal(ctx))
	if err != nil {
		return nil, err
	}
	return api.GetSenderCertificate200JSONResponse{
		Body: api.SenderCertificate{Certificate: c.Bytes, ExpiresAt: c.Expires.Unix()}}, nil
}

// GetTrustRoot gives the key that certificates descend from.
func (s *server) GetTrustRoot(context.Context, api.GetTrustRootRequestObject) (api.GetTrustRootResponseObject, error) {
	return api.GetTrustRoot200JSONResponse{Body: api.TrustRoot{PublicKey: s.cfg.Certificates.TrustRoot()}}, nil
}
