#!/usr/bin/env bash
# check-client-go.sh: the Go client as somebody else's module sees it. Builds the program of clients/go/README.md in a module outside the
# repository and runs it against the relay at RELAY_URL. Then looks that the client brings nothing of the relay with it.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

module=github.com/obscura-relay/obscura
scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT
awk '/^```go main.go$/ { inside = 1; next } /^```$/ { inside = 0 } inside' "$repo_root/clients/go/README.md" >"$scratch/main.go"
awk '/^It prints:$/ { said = 1 } /^```$/ { inside = 0 } said && inside; /^```text$/ { inside = said }' "$repo_root/clients/go/README.md" >"$scratch/want"

cd "$scratch"
export GOFLAGS=-mod=mod
go mod init example.com/hello 2>/dev/null
go mod edit -require="$module@v0.0.0" -replace="$module=$repo_root"
cp "$repo_root/go.sum" . # the versions are ours, so the sums are
go vet .
go build -o hello .
go run "$module/tools/try" keys >alice.json
go run "$module/tools/try" keys >bob.json
./hello alice.json bob.json | tee got
[ -s want ] && diff want got || die "the program of clients/go/README.md does not print what is said there"

# Everything that the client may need, ours and others'.
cat >allowed <<END
github.com/apapsch/go-jsonmerge/v2
github.com/coder/websocket
github.com/google/uuid
github.com/oapi-codegen/runtime
$module/clients/go
$module/gen/client
$module/gen/obscurapb
go.yaml.in/yaml/v3
google.golang.org/protobuf
END
go list -deps -f "{{with .Module}}{{if eq .Path \"$module\"}}{{\$.ImportPath}}{{else}}{{.Path}}{{end}}{{end}}" "$module/clients/go" | LC_ALL=C sort -u >needed
diff allowed needed >&2 || die "clients/go needs something else than it did (>): keep it light, or say in tools/check-client-go.sh that it may"
