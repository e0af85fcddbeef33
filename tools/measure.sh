#!/usr/bin/env bash
# measure.sh FOLDER: takes the figures of docs/performance.md, each into a file of its own in FOLDER. Needs PostgreSQL with psql, some
# 30 GB of disk and half an hour on a machine that does nothing else; the figures of one run compare with each other, not with another's.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$repo_root"
[ $# = 1 ] || die "usage: tools/measure.sh FOLDER"
mkdir -p "$1"
out="$(cd "$1" && pwd)"
pg="$(tools/ensure-postgres.sh)"
export PATH="$pg:$PATH"
make build

# take NAME SCENARIO [FLAG...]
take() {
  local name="$1"
  shift
  say "$name"
  bin/obscura bench "$@" --json "$out/$name.json" >"$out/$name.txt" 2>"$out/$name.log"
}

take relay relay --floor
take relay-100 relay --batch 100 --floor
take relay-1024-senders relay --senders 1024
for rate in 500 2000 5000 8000; do take "relay-at-$rate" relay --rate "$rate"; done
take relay-at-40000 relay --rate 40000
take bundles-hot bundles --hot --kyber
take bundles-spread bundles --kyber
take idle-10000 idle --sockets 10000
take idle-20000 idle --sockets 20000
take backlog backlog
take login login

say "inner loops"
go test ./internal/core/mailbox ./internal/core/keys ./internal/batch ./internal/prekey -run '^$' -bench . -benchtime 2s >"$out/loops.txt"
go test ./internal/app -run '^$' -bench BundlesOverHTTP -benchtime 5s >>"$out/loops.txt"

# One relay, measured empty, then with a million pending envelopes of a hundred thousand devices, then after ten million more have passed.
api=127.0.0.1:3100 management=127.0.0.1:9100 data="$out/data"
rm -rf "$data"
env -u DATABASE_URL -u OBSCURA_DATABASE_URL OBSCURA_DATA_DIR="$data" OBSCURA_RATE_LIMITS=off OBSCURA_LISTEN="$api" \
  OBSCURA_MANAGEMENT_LISTEN="$management" bin/obscura serve 2>"$out/flat.log" &
relay=$!
trap 'kill "$relay" 2>/dev/null; wait "$relay" || true; rm -rf "$data"' EXIT
until curl -sf "http://$management/readyz" >/dev/null; do sleep 0.2; done
url="postgres://obscura@/obscura?host=$data/postgres/run"
flat() {
  for load in "" "--rate 2000" "--batch 100"; do
    # shellcheck disable=SC2086 # the flags are words
    take "flat-$1${load// /-}" relay $load --url "http://$api" --management "http://$management" --database-url "$url"
  done
  psql -qAt "$url" -c "SELECT relname, pg_size_pretty(pg_total_relation_size(oid)), pg_total_relation_size(oid) FROM pg_class
    WHERE relname IN ('messages', 'mailboxes', 'receipts_0', 'receipts_1', 'receipts_2') ORDER BY 1" >"$out/flat-$1-sizes.txt"
}
flat empty
psql -q "$url" <<'SQL'
INSERT INTO mailboxes (device_id, next_seq, pending) SELECT gen_random_uuid(), 11, 10 FROM generate_series(1, 100000);
INSERT INTO messages (device_id, seq, sender_id, sender_device_id, sender_number, accepted_at, body)
  SELECT device_id, s, gen_random_uuid(), gen_random_uuid(), 1, now(), decode(repeat(md5(random()::text), 32), 'hex')
  FROM mailboxes, generate_series(1, 10) s WHERE next_seq = 11;
SQL
flat million
take churn relay --batch 100 --duration "${CHURN:-220s}" --url "http://$api" --management "http://$management" --database-url "$url"
flat churned
say "the figures are in $out"
