#!/usr/bin/env bash
# ensure-pgbouncer.sh: makes sure of PgBouncer, which tests put before the database, installing what is missing, and prints the path of
# the program.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

find_program() {
  local program
  for program in "$(command -v pgbouncer || true)" /usr/sbin/pgbouncer; do
    if [ -x "$program" ]; then
      echo "$program"
      return
    fi
  done
  return 1
}

install_debian() {
  # Debian's package starts a service on port 6432 when it is installed; tests start their own.
  local policy=/usr/sbin/policy-rc.d ours="" failed=""
  if ! [ -e "$policy" ]; then
    ours=1
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
  fi
  apt_install pgbouncer || failed=1
  if [ -n "$ours" ]; then rm -f "$policy"; fi
  [ -z "$failed" ]
}

if find_program; then exit; fi
can_apt || die "install PgBouncer, which tests put before the database (Debian: apt-get install pgbouncer)"
install_debian || die "apt-get could not install PgBouncer: install PgBouncer"
find_program || die "PgBouncer was installed, but it is not in PATH"
