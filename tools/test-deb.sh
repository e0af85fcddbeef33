#!/usr/bin/env bash
# test-deb.sh: the Debian package before systemd (systemd-analyze, 0 to 100: under 30 is under 3.0) and lintian, and its life in a fresh root.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

"$repo_root/tools/ensure-release.sh" >/dev/null
scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT
have systemd-analyze || apt_install systemd
have lintian || apt_install lintian

dpkg-deb --extract "$repo_root/dist/obscura_$(dpkg --print-architecture).deb" "$scratch"
units="$scratch/lib/systemd/system"
unit="$units/obscura.service"
systemd-analyze security --offline=true --threshold=30 "$unit" | tail -n 1
# It fails where nothing is forbidden.
grep -E '^(\[|User|ExecStart)' "$unit" >"$scratch/open.service"
if systemd-analyze security --offline=true --threshold=30 "$scratch/open.service" >/dev/null; then die "systemd-analyze lets everything pass"; fi
# The units, among systemd's own.
cp --recursive --no-clobber /usr/lib/systemd/system/. "$units/"
verify() { { systemd-analyze verify --root="$scratch" "$1" 2>&1 || true; } | grep "$1:"; }
for one in obscura.service obscura.socket; do
  if verify "$one"; then die "systemd does not take $one as it is"; fi
  sed -i 's/^\(Type\|ListenStream\)=/Typo=/' "$units/$one"
  verify "$one" >/dev/null || die "systemd-analyze verify lets everything pass in $one"
done

lintian --fail-on error,warning "$repo_root"/dist/*.deb
exec "$repo_root/tools/fresh-root.sh" deb
