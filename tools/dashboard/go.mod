module github.com/obscura-relay/obscura/tools/dashboard

go 1.26.0

toolchain go1.26.11

require (
	github.com/grafana/grafana-foundation-sdk/go v0.0.22
	gopkg.in/yaml.v3 v3.0.1
)
