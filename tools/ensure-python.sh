#!/usr/bin/env bash
# ensure-python.sh: makes sure of Python 3.10 or newer with venv, installing what is missing, and prints the path of the program.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

works() { python3 -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1; }

if ! works; then
  can_apt || die "install Python 3.10 or newer with venv (Debian: apt-get install python3 python3-venv)"
  apt_install python3 python3-venv
  works || die "install Python 3.10 or newer with venv; this one is $(python3 --version 2>/dev/null || echo missing)"
fi
command -v python3
