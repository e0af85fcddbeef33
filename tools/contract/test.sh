#!/usr/bin/env bash
# test.sh: shows with the real tools that a break of the contract fails, that one that is meant passes, and that a line of
# allowed.txt that matches nothing fails. Works on copies, in a repository of its own.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT
copy="$scratch/copy" allowed="$scratch/allowed.txt"
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1 \
  GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
unset GIT_CONFIG_COUNT

go build -o "$scratch/contract" ./tools/contract
git init -q -b main "$copy"
cp openapi.yaml obscura.proto "$copy/"
git -C "$copy" add .
git -C "$copy" commit -qm "a contract"
git -C "$copy" tag v1.0.0

# edit FILE SED: changes the contract, which must change it.
edit() {
  git -C "$copy" checkout -q -- .
  sed -i "$2" "$copy/$1"
  if git -C "$copy" diff --quiet; then echo "FAILED: this edit changes nothing: $2"; exit 1; fi
}

# want STATUS TEXT: runs the check, which must end so and say that.
want() {
  local status=0 said
  said="$("$scratch/contract" -dir "$copy" -allowed "$allowed" 2>&1)" || status=$?
  if [ "$status" != "$1" ] || ! grep -qF -- "$2" <<<"$said"; then
    echo "FAILED: status $status, want $1 and: $2"
    echo "$said"
    exit 1
  fi
}

# breaks FILE SED TEXT: the edit is a break that is called so; it passes when it is meant.
breaks() {
  local said
  : >"$allowed"
  edit "$1" "$2"
  want 1 "breaks: $1: $3"
  said="$("$scratch/contract" -dir "$copy" -allowed "$allowed" 2>/dev/null || true)"
  sed -n 's/^breaks: \(.*\)/\1 because nobody uses it yet/p' <<<"$said" >"$allowed"
  want 0 "meant: $1: $3"
  echo "$1: another break because it is not there" >>"$allowed"
  want 1 "there is no such break: $1: another break"
  echo "ok: $3"
}

: >"$allowed"
want 0 "made the first contract"
git -C "$copy" commit -q --allow-empty -m "something else"
want 0 "openapi.yaml is the same there"

breaks openapi.yaml 's/maxLength: 100$/maxLength: 90/' "POST /v1/devices: the \`name\` request property's maxLength was decreased to \`90\`"
breaks openapi.yaml 's/operationId: createUser$/operationId: registerUser/' "POST /v1/users: api operation id \`createUser\` removed"
breaks openapi.yaml 's,^  /v1/account/password:,  /v1/password:,' "PUT /v1/account/password: api path removed without deprecation"
breaks openapi.yaml '/^    AuthResponse:/,/^    DeviceNumber:/s/expiresAt/expires/' "POST /v1/users: removed the required property \`expiresAt\`"
breaks openapi.yaml '/operationId: listDevices$/a\      x-device-scoped: true' "GET /v1/devices: a device-scoped token became necessary"
breaks obscura.proto 's/uint64 timestamp = 3;/uint64 timestamp = 8;/' 'Previously present field "3" with name "timestamp"'
breaks obscura.proto 's/uint64 sequence = 6;/bytes sequence = 6;/' 'Field "6" with name "sequence" on message "Envelope" changed type'
breaks obscura.proto 's/bytes sender_id = 2;/bytes from_id = 2;/' 'Field "2" on message "Envelope" changed name'
breaks obscura.proto 's/  uint64 timestamp = 3;/  reserved 3; reserved "timestamp";/' 'Previously present field "3" with name "timestamp"'
breaks obscura.proto 's/\bDrained\b/Emptied/' 'Previously present message "Drained" was deleted'

: >"$allowed"
edit openapi.yaml 's/^  version: .*/  version: 99.0.0/'
want 0 "nothing breaks"
edit obscura.proto 's/^message Drained {/&\n  uint64 more = 2;/'
want 0 "nothing breaks"
echo "obscura.proto: a break without a reason" >"$allowed"
want 1 "allowed.txt:1: a break that is meant needs"
echo "ok: additions pass, and an allowance needs a reason"
