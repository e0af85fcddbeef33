#!/usr/bin/env bash
# buf.sh ARGUMENTS...: runs buf, at the version of tools/npm/buf. BUF_BIN names another one, for machines it is not made for.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

if [ -n "${BUF_BIN:-}" ]; then exec "$BUF_BIN" "$@"; fi
platform="$(npm_platform)"
case "$platform" in
  linux-arm64) platform=linux-aarch64 ;; # buf's own name for it
  unsupported) die "buf: there is no pinned build for $(uname -s) $(uname -m); install buf 1.75.0 and set BUF_BIN to its path" ;;
esac
"$repo_root/tools/prerequisites.sh" node
npm_install buf "$local_tools/buf"
exec "$local_tools/buf/node_modules/@bufbuild/buf-$platform/bin/buf" "$@"
