#!/usr/bin/env bash
# test-web-chat.sh: shows that `make web-chat PORT=…` serves the page on that port, for as long as it runs.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$repo_root"

port="$(node -e 'const s = require("net").createServer().listen(0, "localhost", () => { console.log(s.address().port); s.close(); })')"
setsid make --no-print-directory web-chat PORT="$port" >/dev/null &
server=$!
trap 'kill -- -"$server" 2>/dev/null || true' EXIT
page="$(curl -sS --fail --retry 60 --retry-delay 1 --retry-connrefused "http://localhost:$port/" 2>/dev/null)" || die "FAILED: nothing answers on port $port"
grep -q '<script type="module"' <<<"$page" || die "FAILED: port $port does not serve the page"
kill -- -"$server"
wait "$server" || true
if curl -s "http://localhost:$port/" >/dev/null; then die "FAILED: port $port is still served after the end"; fi
say "ok: make web-chat PORT=$port"
