#!/usr/bin/env bash
# ensure-chromium.sh: makes sure of a Chromium browser, installing what is missing, and prints the path of the program.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

find_browser() {
  local name
  for name in chromium chromium-browser google-chrome; do
    if have "$name"; then
      command -v "$name"
      return
    fi
  done
  return 1
}

if find_browser; then exit; fi
can_apt || die "install Chromium (Debian: apt-get install chromium)"
apt_install chromium || die "apt-get could not install Chromium: install Chromium or Google Chrome"
find_browser || die "Chromium was installed, but it is not in PATH"
