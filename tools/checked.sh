#!/usr/bin/env bash
# checked.sh COMMAND...: runs the command with RELAY_URL naming a proxy before the relay at RELAY_URL, and fails when one of the
# relay's answers breaks the contract. Needs bin/front (go build -o bin/front ./tools/front).
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

[ -x "$repo_root/bin/front" ] || die "bin/front is missing: go build -o bin/front ./tools/front"
coproc front { exec "$repo_root/bin/front" "$RELAY_URL"; }
pid="$front_PID"
trap 'kill "$pid" 2>/dev/null || true' EXIT
read -r url <&"${front[0]}" || die "the proxy did not start"

status=0
RELAY_URL="$url" "$@" || status=$?
kill -TERM "$pid" 2>/dev/null || true
wait "$pid" || status=$((status ? status : 1))
trap - EXIT
exit "$status"
