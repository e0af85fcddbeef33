#!/usr/bin/env bash
# ensure-release.sh: makes sure that dist holds the release of HEAD; with the version of the changelog, as if HEAD had its tag.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

tag="v$(sed -nE 's/^## \[([0-9]+\.[0-9]+\.[0-9]+)\].*/\1/p' "$repo_root/CHANGELOG.md" | sed -n 1p)"
of="$tag $(git -C "$repo_root" rev-parse HEAD)"
if [ "$(cat "$repo_root/dist/.of" 2>/dev/null)" != "$of" ]; then
  rm -rf "$repo_root/dist"
  go -C "$repo_root/tools/release" run . -tag "$tag" >&2
  echo "$of" >"$repo_root/dist/.of"
fi
echo "$tag"
