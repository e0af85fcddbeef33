#!/usr/bin/env bash
# ensure-node.sh: makes sure of Node.js 20 or newer with npm, installing what is missing, and prints the folder to put first in PATH.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

recent() { "$1" -e 'process.exit(Number(process.versions.node.split(".")[0]) >= 20 ? 0 : 1)' >/dev/null 2>&1; }

if ! have npm; then
  can_apt || die "install Node.js 20 or newer with npm (Debian: apt-get install nodejs npm)"
  apt_install nodejs npm
fi
if recent node; then
  dirname "$(command -v node)"
  exit
fi
# The distribution's is too old (Debian 12 has 18): npm carries a newer one.
platform="$(npm_platform)"
[ "$platform" != unsupported ] || die "install Node.js 20 or newer; this one is $(node --version 2>/dev/null || echo missing)"
npm_install node "$local_tools/node"
bin="$local_tools/node/node_modules/node-$platform/bin"
recent "$bin/node" || die "install Node.js 20 or newer; the one from npm does not run here"
echo "$bin"
