#!/usr/bin/env bash
# redocly.sh ARGUMENTS...: runs Redocly's command line, at the version of tools/npm/redocly..
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

node="$("$repo_root/tools/ensure-node.sh")"
npm_install redocly "$local_tools/redocly"
REDOCLY_TELEMETRY=off REDOCLY_SUPPRESS_UPDATE_NOTICE=true NO_COLOR=1 \
  exec "$node/node" "$local_tools/redocly/node_modules/@redocly/cli/bin/cli.js" "$@"
