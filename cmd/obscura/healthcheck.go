package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

type healthcheckCmd struct {
	ManagementListen string `default:"127.0.0.1:9090" placeholder:"ADDRESS" help:"Address of /livez, /readyz and /metrics, as the relay has it."`
}

// Validate refuses what the relay refuses.
func (c *healthcheckCmd) Validate() error {
	if _, _, err := net.SplitHostPort(c.ManagementListen); err != nil {
		return errors.New("--management-listen must be HOST:PORT, for example 127.0.0.1:9090")
	}
	return nil
}

// Run asks /readyz, for an image that has no curl.
func (c *healthcheckCmd) Run(ctx context.Context) error {
	host, port, _ := net.SplitHostPort(c.ManagementListen) // valid
	// An address for all of the machine.
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+"/readyz", nil)
	if err != nil {
		return err
	}
	transport := &http.Transport{DisableKeepAlives: true} // and no proxy
	answer, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return fmt.Errorf("no relay answers: %w", err)
	}
	defer answer.Body.Close()
	said, err := io.ReadAll(io.LimitReader(answer.Body, 1024))
	if err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("the relay is not ready: %s", bytes.TrimSpace(said))
	}
	_, err = fmt.Printf("%s", said)
	return err
}
