package main

import (
	"context"
	"os"

	"github.com/obscura-relay/obscura/internal/app"
)

type certificatesCmd struct {
	Show   certificatesShowCmd   `cmd:"" help:"Print the public key of the trust root and the id of the server certificate."`
	Rotate certificatesRotateCmd `cmd:"" help:"Replace the server key by one that the same trust root has signed. Running relays take it within a second."`
}

type certificatesShowCmd struct {
	app.Database
	app.Certificates
}

func (c *certificatesShowCmd) Run(ctx context.Context) error {
	return app.ShowCertificates(ctx, c.Database, c.Certificates, os.Stdout, os.Stderr)
}

type certificatesRotateCmd struct {
	app.Database
	app.Certificates
}

func (c *certificatesRotateCmd) Run(ctx context.Context) error {
	return app.RotateCertificates(ctx, c.Database, c.Certificates, os.Stdout, os.Stderr)
}
