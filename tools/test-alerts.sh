#!/usr/bin/env bash
# test-alerts.sh: the alerts by promtool, and every expression of the alerts and the dashboard against a Prometheus that
# scrapes a relay under load. Run it through with-relay.sh, with the root of the relay's certificate in RELAY_ROOT.
# PICTURE=FILE.svg draws the dashboard's panels.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

if ! have prometheus || ! have promtool; then
  can_apt || die "install Prometheus (Debian: apt-get install prometheus)"
  apt_install prometheus || die "apt-get could not install prometheus"
fi
cd "$repo_root"
promtool check rules deploy/prometheus/alerts.yaml
promtool test rules deploy/prometheus/alerts_test.yaml

scratch="$(mktemp -d)"
trap 'kill "$server" 2>/dev/null && wait "$server" || true; rm -rf "$scratch"' EXIT
port="$(node -e 'const s = require("net").createServer().listen(0, "127.0.0.1", () => { console.log(s.address().port); s.close(); })')"
cat >"$scratch/prometheus.yml" <<END
global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [$repo_root/deploy/prometheus/alerts.yaml]
scrape_configs: [{job_name: obscura, static_configs: [{targets: ["${MANAGEMENT_URL#http://}"]}]}]
END
prometheus --config.file="$scratch/prometheus.yml" --storage.tsdb.path="$scratch/data" \
  --web.listen-address="127.0.0.1:$port" >"$scratch/log" 2>&1 &
server=$!
SSL_CERT_FILE="$RELAY_ROOT" bin/obscura bench relay --url "$RELAY_URL" --devices 40 --senders 4 --rate 400 --duration "${DURATION:-20s}" --warmup 1s
go run -C tools/dashboard . -prometheus "http://127.0.0.1:$port" ${PICTURE:+-picture "$(realpath "$PICTURE")"}
