# Sourced by the scripts beside it: where things are, and the two ways of installing what is missing.
# shellcheck shell=bash

repo_root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
local_tools="$repo_root/.tools"

# What was too old here, see prerequisites.sh. Tools keep their caches in the home folder, which services and containers may lack.
export PATH="$local_tools/bin:$PATH"
if [ -z "${HOME:-}" ]; then HOME="$(getent passwd "$(id -u)" | cut -d: -f6)" && export HOME; fi

say() { echo "$*" >&2; }

die() {
  say "$*"
  exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

can_apt() { [ "$(id -u)" = 0 ] && have apt-get; }

# apt_install PACKAGE...: needs root. Standard output stays free for answers. One update a run. Meanwhile no service is started, and
# Debian's PostgreSQL makes no cluster of its own: ours are elsewhere.
apt_install() (
  say "installing with apt-get: $*"
  export DEBIAN_FRONTEND=noninteractive
  policy=/usr/sbin/policy-rc.d clusters=/etc/postgresql-common/createcluster.d ours=()
  trap 'rm -f "${ours[@]}"' EXIT
  if ! [ -e "$policy" ]; then
    ours+=("$policy")
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
  fi
  ours+=("$clusters/obscura.conf")
  mkdir -p "$clusters"
  echo "create_main_cluster = false" >"$clusters/obscura.conf"
  if [ -z "${APT_UPDATED:-}" ]; then apt-get update -qq >&2 || say "apt-get update failed; trying with the lists there are"; fi
  apt-get install -y -qq --no-install-recommends "$@" >/dev/null
)

# npm_ci: installs what the package-lock.json of the current folder names, and all of it, however npm is configured here: Debian's
# npm 9 packs a folder that is depended on (install-links), and NODE_ENV=production leaves the compiler out. No install script is run.
npm_ci() {
  npm ci --ignore-scripts --install-links=false --include=dev --include=optional --include=peer --engine-strict=false --loglevel=error
}

# npm_install NAME DIRECTORY: installs tools/npm/NAME/package-lock.json into DIRECTORY, unless that is what it holds already.
# No install script of a package is run.
npm_install() {
  local manifest="$repo_root/tools/npm/$1" into="$2"
  mkdir -p "$into"
  if cmp -s "$manifest/package-lock.json" "$into/node_modules/.obscura-lock.json"; then return; fi
  (
    if have flock; then exec 9>"$into/.lock" && flock 9; fi
    if cmp -s "$manifest/package-lock.json" "$into/node_modules/.obscura-lock.json"; then exit; fi
    say "installing with npm: $1"
    cp "$manifest/package.json" "$manifest/package-lock.json" "$manifest/.npmrc" "$into/"
    cd "$into"
    npm_ci >&2
    cp package-lock.json node_modules/.obscura-lock.json
  )
}

# npm_platform: the name npm packages give to this machine.
npm_platform() {
  case "$(uname -s)-$(uname -m)" in
    Linux-x86_64) echo linux-x64 ;;
    Linux-aarch64 | Linux-arm64) echo linux-arm64 ;;
    *) echo "unsupported" ;;
  esac
}
