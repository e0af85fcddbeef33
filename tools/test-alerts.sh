#!/usr/bin/env bash
# test-alerts.sh: deploy/prometheus/alerts.yaml by promtool: that the rules are valid, and that each fires when it should
# and not otherwise. Installs Debian's Prometheus where there is none.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

if ! have promtool; then
  can_apt || die "install Prometheus (Debian: apt-get install prometheus)"
  apt_install prometheus || die "apt-get could not install prometheus"
fi
cd "$repo_root/deploy/prometheus"
promtool check rules alerts.yaml
promtool test rules alerts_test.yaml
for alert in $(sed -n 's/^ *- alert: //p' alerts.yaml); do
  grep -q "{alertname=\"$alert\"" alerts_test.yaml || die "no test has the alert $alert fire"
done
