#!/usr/bin/env bash
# lint-openapi.sh [FILE]: checks the contract against redocly.yaml. A warning fails like an error.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

cd "$repo_root"
file="${1:-openapi.yaml}"
scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT

# Its exit status does not tell a warning from none, so the report is counted.
"$repo_root/tools/redocly.sh" lint "$file" --config redocly.yaml --lint-config=error --max-problems=1000 --format=json \
  >"$scratch/report" 2>"$scratch/log" || true
[ -s "$scratch/report" ] || { cat "$scratch/log" >&2; exit 1; }
node -e '
  const { problems, totals } = JSON.parse(require("node:fs").readFileSync(process.argv[1], "utf8"));
  for (const { location: [{ source, start }], severity, ruleId, message } of problems)
    console.log(`${source?.ref ?? ""}:${start?.line ?? 0}: ${severity} ${ruleId}: ${message}`);
  process.exitCode = totals.errors + totals.warnings + totals.ignored ? 1 : 0;' "$scratch/report"
