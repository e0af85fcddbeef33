#!/usr/bin/env bash
# ensure-proxies.sh: makes sure of the proxies that docs/operations.md has a configuration for, installing what is missing.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

PATH="$PATH:/usr/sbin:/usr/local/sbin" # Debian keeps nginx where an ordinary user's PATH does not lead
missing=()
for proxy in nginx caddy haproxy; do
  have "$proxy" || missing+=("$proxy")
done
if [ "${#missing[@]}" = 0 ]; then exit; fi
can_apt || die "install ${missing[*]} (Debian: apt-get install ${missing[*]})"
apt_install "${missing[@]}" || die "apt-get could not install ${missing[*]}"
