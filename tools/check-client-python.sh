#!/usr/bin/env bash
# check-client-python.sh: a client of others. Generates one in Python from openapi.yaml and obscura.proto, compiles it, and runs
# the whole flow with it (tools/client-python/flow.py) against the relay at RELAY_URL. Its packages come from PyPI, into .tools.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

python="$("$repo_root/tools/ensure-python.sh")"
wanted="$repo_root/tools/client-python/requirements.txt" venv="$local_tools/python"
if ! cmp -s "$wanted" "$venv/.installed"; then
  rm -rf "$venv"
  "$python" -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$wanted" >&2
  cp "$wanted" "$venv/.installed"
fi

scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"
export PATH="$venv/bin:$PATH"
openapi-python-client generate --fail-on-warning --meta none --output-path obscura_client \
  --config "$repo_root/tools/client-python/generator.yaml" --path "$repo_root/openapi.yaml" >generated 2>&1 ||
  { cat generated >&2; die "openapi-python-client does not take the contract"; }
python -m grpc_tools.protoc --proto_path="$repo_root" --python_out=. obscura.proto
python -m compileall -q obscura_client obscura_pb2.py
ruff check --quiet --isolated --select F821,F822,F823,E9 obscura_client # names that are not defined
(cd "$repo_root" && go build -o "$scratch/try" ./tools/try)
TRY="$scratch/try" PYTHONPATH="$scratch" python "$repo_root/tools/client-python/flow.py"
