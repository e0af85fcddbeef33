#!/usr/bin/env bash
# prerequisites.sh [NAME...]: looks for everything that the commands of this project need, before anything is built. If something of the
# names is missing (without names: anything), then all that is missing is installed, as root on Debian, or named in one sentence.
# The names: certificates curl make git go cc postgres pgbouncer node, and chromium, which only those need who name it. What the system has in too old a version (Debian 12: Go and
# Node.js) comes from their package registries into .tools, whose bin folder the Makefile and the scripts put first in PATH.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
source "$repo_root/tools/needs.sh"

# The system's own programs are looked at.
PATH="$(tr : '\n' <<<"$PATH" | { grep -v '/\.tools/bin$' || true; } | paste -sd:)"

everything=(certificates curl make git go cc postgres pgbouncer node)
named=("${@:-${everything[@]}}")

declare -A packages=([certificates]=ca-certificates [curl]=curl [make]=make [git]=git [go]=golang-go [cc]="gcc libc6-dev"
  [postgres]=postgresql [pgbouncer]=pgbouncer [node]="nodejs npm" [chromium]=chromium)

# enumerate WORDS...: a, b and c.
enumerate() {
  local text="$1"
  shift
  while [ $# -gt 1 ]; do
    text+=", $1"
    shift
  done
  echo "$text${1:+ and $1}"
}

# look NAME...: puts the words for everything that is missing into missing, and what apt-get has for it into wanted.
look() {
  local name words
  missing=() wanted=()
  for name in "$@"; do
    [ -n "${packages[$name]:-}" ] || die "prerequisites.sh knows nothing that is called $name"
    words="$("lacks_$name")"
    [ -n "$words" ] || continue
    missing+=("$words")
    # Another package cannot help where a setting is in the way.
    [[ "$words" = *GOTOOLCHAIN* ]] || wanted+=(${packages[$name]})
  done
}

complain() {
  local sentence
  sentence="this machine lacks $(enumerate "${missing[@]}")"
  if [ "${#wanted[@]}" != 0 ]; then
    sentence+="; on Debian this brings it, as root: apt-get update && apt-get install -y --no-install-recommends ${wanted[*]}"
  fi
  die "$sentence"
}

look "${named[@]}"
if [ "${#missing[@]}" != 0 ]; then
  if [[ " ${named[*]} " = *" chromium "* ]]; then everything+=(chromium); fi
  look "${everything[@]}"
  can_apt && [ "${#wanted[@]}" != 0 ] || complain
  apt_install "${wanted[@]}" || die "apt-get could not install ${wanted[*]}"
  look "${named[@]}"
  [ "${#missing[@]}" = 0 ] || complain
fi
mkdir -p "$local_tools/bin"
for name in "${named[@]}"; do
  if declare -F "bring_$name" >/dev/null; then "bring_$name"; fi
done
