#!/usr/bin/env bash
# npm-ci.sh DIRECTORY...: installs what the package-lock.json of each folder names, unless it is there already. No install script of a package is run.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

for directory in "$@"; do
  lock="$directory/package-lock.json"
  installed="$directory/node_modules/.obscura-lock.json"
  if cmp -s "$lock" "$installed"; then continue; fi
  (
    if have flock; then exec 9<"$lock" && flock 9; fi
    if cmp -s "$lock" "$installed"; then exit; fi
    cd "$directory"
    npm_ci >&2
    cp package-lock.json node_modules/.obscura-lock.json
  )
done
