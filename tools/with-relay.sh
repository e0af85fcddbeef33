#!/usr/bin/env bash
# with-relay.sh COMMAND...: runs the command with RELAY_URL naming a relay started for it, with data and ports of its own, and
# MANAGEMENT_URL its management port (https:// when OBSCURA_TLS_CERTIFICATE and OBSCURA_TLS_KEY are set), and stops the relay afterwards. Its database is that of CLUSTER_URL if that is set. Needs bin/obscura and Node.js. The end of its log is shown when something fails.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

[ -x "$repo_root/bin/obscura" ] || die "bin/obscura is missing: run make build"
scratch="$(mktemp -d)"
relay=""

stop() {
  local status=$?
  trap - EXIT
  if [ -n "$relay" ] && kill -TERM "$relay" 2>/dev/null; then wait "$relay" || status=$((status ? status : 1)); fi
  if [ "$status" != 0 ]; then
    say "--- what the relay logged last"
    tail -n 20 "$scratch/relay.log" >&2 || true
  fi
  rm -rf "$scratch"
  exit "$status"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

read -r api management < <(node -e '
  const net = require("node:net");
  const servers = [net.createServer(), net.createServer()];
  Promise.all(servers.map((s) => new Promise((ok) => s.listen(0, "127.0.0.1", () => ok(s.address().port)))))
    .then((ports) => { console.log(ports.join(" ")); servers.forEach((s) => s.close()); });')

(
  unset DATABASE_URL OBSCURA_DATABASE_URL
  [ -z "${CLUSTER_URL:-}" ] || export OBSCURA_DATABASE_URL="$CLUSTER_URL" # it may hold a password: it is in no command
  export OBSCURA_LISTEN="127.0.0.1:$api" OBSCURA_MANAGEMENT_LISTEN="127.0.0.1:$management" OBSCURA_DATA_DIR="$scratch/data"
  exec "$repo_root/bin/obscura" serve
) >"$scratch/relay.log" 2>&1 &
relay=$!

node -e '
  const until = Date.now() + 60_000;
  (async function ready() {
    const up = await fetch(process.argv[1]).then((r) => r.ok, () => false);
    if (up) process.exit(0);
    try { process.kill(Number(process.argv[2]), 0); } catch { process.exit(1); }
    if (Date.now() > until) process.exit(1);
    setTimeout(ready, 100);
  })();' "http://127.0.0.1:$management/readyz" "$relay" || die "the relay did not get ready"

scheme=http
[ -z "${OBSCURA_TLS_CERTIFICATE:-}" ] || scheme=https
RELAY_URL="$scheme://127.0.0.1:$api" MANAGEMENT_URL="http://127.0.0.1:$management" "$@"
