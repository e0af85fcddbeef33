// Package obscura embeds the contract, so that the relay serves the very bytes that its code was
// generated from.
package obscura

import _ "embed"

// OpenAPI is openapi.yaml.
//
//go:embed openapi.yaml
var OpenAPI []byte

// Proto is obscura.proto.
//
//go:embed obscura.proto
var Proto []byte
