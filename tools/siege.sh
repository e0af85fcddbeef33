#!/usr/bin/env bash
# siege.sh [WORD...]: besieges a relay started for it, over TLS if TLS is set, with the attacks whose names have one of the words.
# Needs bin/obscura and bin/siege.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

if [ -n "${TLS:-}" ]; then
  folder="$(mktemp -d)"
  trap 'rm -rf "$folder"' EXIT
  "$repo_root/bin/siege" certificate "$folder"
  export OBSCURA_TLS_CERTIFICATE="$folder/certificate.pem" OBSCURA_TLS_KEY="$folder/key.pem" SSL_CERT_FILE="$folder/root.pem"
fi
# shellcheck disable=SC2016 # with-relay.sh sets the variables
"$repo_root/tools/with-relay.sh" bash -c 'exec "$0" "$RELAY_URL" "$MANAGEMENT_URL" "$@"' "$repo_root/bin/siege" "$@"
