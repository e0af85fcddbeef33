#!/usr/bin/env bash
# lint-deploy.sh: deploy/ by the schemas of Compose and Kubernetes, and the bills of materials in dist, if they are there, by CycloneDX's.
# The packages come from PyPI, into .tools.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

python="$("$repo_root/tools/ensure-python.sh")"
wanted="$repo_root/tools/deploy/requirements.txt" venv="$local_tools/python-deploy"
if ! cmp -s "$wanted" "$venv/.installed"; then
  rm -rf "$venv"
  "$python" -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$wanted" >&2
  cp "$wanted" "$venv/.installed"
fi
export PATH="$venv/bin:$PATH"
cd "$repo_root"
scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT

compose() { check-jsonschema --builtin-schema vendor.compose-spec "$1"; }
kubernetes() { kubernetes-validate --strict "$1"; }

yamllint --strict --config-data '{extends: default, rules: {line-length: {max: 100, ignore: [deploy/prometheus/]}, document-start: disable}}' deploy
compose deploy/compose.yaml
kubernetes deploy/kubernetes/obscura.yaml

# With TLS of its own.
sed -E '/127.0.0.1:3000:3000/d; s/^( +)# (OBSCURA_(DOMAIN|HTTP_LISTEN)|- (443|80)):/\1\2:/' deploy/compose.yaml >"$scratch/compose.yaml"
[ "$(grep -cE '^ +(OBSCURA_(DOMAIN|HTTP_LISTEN)|- (443|80)):' "$scratch/compose.yaml")" = 4 ] || die "compose.yaml has no settings for TLS"
compose "$scratch/compose.yaml"

# Each finds a name that is not one.
sed 's/stop_grace_period/stop_grace_time/' deploy/compose.yaml >"$scratch/compose.yaml"
if compose "$scratch/compose.yaml" >/dev/null; then die "Compose's schema lets everything pass"; fi
sed 's/readinessProbe/readynessProbe/' deploy/kubernetes/obscura.yaml >"$scratch/obscura.yaml"
if kubernetes "$scratch/obscura.yaml" >/dev/null 2>&1; then die "Kubernetes' schema lets everything pass"; fi

for bill in dist/*.cdx.json; do
  [ -e "$bill" ] || continue
  python - "$bill" <<'PY'
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

text = open(sys.argv[1]).read()
check = JsonStrictValidator(SchemaVersion.V1_6).validate_str
if error := check(text):
    sys.exit(f"{sys.argv[1]}: {error}")
if not check(text.replace('"components"', '"parts"', 1)):
    sys.exit("CycloneDX's schema lets everything pass")
PY
  echo "$bill is CycloneDX"
done
