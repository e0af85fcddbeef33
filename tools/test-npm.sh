#!/usr/bin/env bash
# test-npm.sh: shows that tools/npm-ci.sh installs the whole of a lock file, a folder that is depended on included, however npm is
# configured, and that nothing else calls npm's installers. Needs no network.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT
mkdir -p "$scratch/needed" "$scratch/compiler" "$scratch/library" "$scratch/program"
package() { printf '{"name": "%s", "version": "1.0.0"%s}\n' "$1" "${2:-}"; }
package needed >"$scratch/needed/package.json"
package compiler ', "engines": {"node": ">=9000"}' >"$scratch/compiler/package.json"
package library ', "dependencies": {"needed": "file:../needed"}' >"$scratch/library/package.json"
package program ', "dependencies": {"library": "file:../library"}, "devDependencies": {"compiler": "file:../compiler"}' >"$scratch/program/package.json"
npm --prefix "$scratch/program" install --package-lock-only --install-links=false --silent

# wants NAME=VALUE: the same is installed with these settings.
wants() {
  local package
  rm -rf "$scratch/program/node_modules"
  env "$@" "$repo_root/tools/npm-ci.sh" "$scratch/program" >"$scratch/log" 2>&1 || die "FAILED: npm ci with $*: $(cat "$scratch/log")"
  for package in library compiler; do
    [ -L "$scratch/program/node_modules/$package" ] || die "FAILED: with $* $package is missing, or is a copy"
  done
  say "ok: npm $(npm --version) with $*"
}

wants npm_config_install_links=false
wants npm_config_install_links=true
wants NODE_ENV=production
wants npm_config_omit="dev optional peer"
wants npm_config_engine_strict=true

cd "$repo_root"
others="$(grep -nE '\bnpm +(ci|i|install|add)\b' Makefile .ci/run tools/*.sh | grep -vE '^tools/(lib|test-npm)\.sh:|^[^:]*:[0-9]+:#|^[^:]*:[0-9]+:.* ## ' || true)"
[ -z "$others" ] || die "FAILED: these install without npm_ci of tools/lib.sh:"$'\n'"$others"
say "ok: everything installs by npm_ci"
