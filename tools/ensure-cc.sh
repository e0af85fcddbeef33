#!/usr/bin/env bash
# ensure-cc.sh: makes sure of a C compiler, which the race detector needs.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

if have gcc || have clang || have "${CC:-cc}"; then exit; fi
can_apt || die "install a C compiler, which the race detector needs (Debian: apt-get install gcc libc6-dev)"
apt_install gcc libc6-dev
