#!/usr/bin/env bash
# redocly.sh ARGUMENTS...: runs Redocly's command line, at the version of tools/npm/redocly.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

"$repo_root/tools/prerequisites.sh" node
npm_install redocly "$local_tools/redocly"
REDOCLY_TELEMETRY=off REDOCLY_SUPPRESS_UPDATE_NOTICE=true NO_COLOR=1 \
  exec node "$local_tools/redocly/node_modules/@redocly/cli/bin/cli.js" "$@"
