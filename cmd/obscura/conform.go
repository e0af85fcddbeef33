package main

import (
	"context"
	"os"

	"github.com/obscura-relay/obscura/internal/kit/conform"
)

// conformCmd is `obscura conform`.
type conformCmd struct{ conform.Config }

func (c *conformCmd) Run(ctx context.Context) error {
	c.Out, c.Progress = os.Stdout, os.Stderr
	_, err := conform.Run(ctx, c.Config)
	return err
}
