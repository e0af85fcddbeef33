#!/usr/bin/env bash
# measure.sh FOLDER [PART...]: takes the figures of docs/performance.md, each into a file of its own in FOLDER. The parts are relay, bundles,
# idle, backlog, connect, login, loops and flat; without one, all of them, which takes half an hour and 30 GB of disk. Needs PostgreSQL with psql, and
# a machine that does nothing else; the figures of one run compare with each other, not with another's.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$repo_root"
[ $# -ge 1 ] || die "usage: tools/measure.sh FOLDER [PART...]"
mkdir -p "$1"
out="$(cd "$1" && pwd)"
shift
tools/prerequisites.sh curl go postgres
make build

# take NAME SCENARIO [FLAG...]
take() {
  local name="$1"
  shift
  say "$name: obscura bench $*"
  bin/obscura bench "$@" --json "$out/$name.json" >"$out/$name.txt" 2>"$out/$name.log"
}

relay() {
  take relay relay --floor
  take relay-batch-100 relay --batch 100 --floor
  take relay-senders-1024 relay --senders 1024
  local rate
  for rate in 500 2000 5000 8000 40000; do take "relay-rate-$rate" relay --rate "$rate"; done
  take sealed relay --sealed
  take shared relay --shared --duration 30s
  take shared-without-prefix relay --shared --prefix 0 --duration 30s
}

bundles() {
  take bundles-hot bundles --hot --kyber
  take bundles-spread bundles --kyber
}

idle() {
  take idle-10000 idle --sockets 10000
  take idle-19500 idle --sockets 19500 # two processes with at most 20,000 descriptors each
}

backlog() { take backlog backlog; }

connect() { take connect connect; }

login() { take login login; }

loops() {
  go test ./internal/core/mailbox ./internal/core/keys ./internal/batch ./internal/prekey -run '^$' -bench . -benchtime 2s >"$out/loops.txt"
  go test ./internal/kit/e2e/keys -run '^$' -bench BundlesOverHTTP -benchtime 5s >>"$out/loops.txt"
  go test ./internal/kit/e2e/blob -run '^$' -bench BenchmarkDownload -benchtime 3s >>"$out/loops.txt"
  go test ./internal/core/push -run '^$' -bench Scheduling -benchtime 3x >>"$out/loops.txt"
}

# One relay, measured empty, then with a million pending envelopes of a hundred thousand devices, then after ten million more have passed.
flat() {
  local api=127.0.0.1:3100 management=127.0.0.1:9100
  data="$out/data"
  rm -rf "$data"
  env -u DATABASE_URL -u OBSCURA_DATABASE_URL OBSCURA_DATA_DIR="$data" OBSCURA_RATE_LIMITS=off OBSCURA_LISTEN="$api" \
    OBSCURA_MANAGEMENT_LISTEN="$management" bin/obscura serve 2>"$out/flat.log" &
  server=$!
  trap 'kill "$server" 2>/dev/null; wait "$server" || true; rm -rf "$data"' EXIT
  until curl -sf "http://$management/readyz" >/dev/null; do sleep 0.2; done
  local url="postgres://obscura@/obscura?host=$data/postgres/run"
  local there=(--url "http://$api" --management "http://$management" --database-url "$url")
  flat_at empty
  psql -q "$url" <<'SQL'
INSERT INTO mailboxes (device_id, next_seq, pending) SELECT gen_random_uuid(), 11, 10 FROM generate_series(1, 100000);
INSERT INTO messages (device_id, seq, sender_id, sender_device_id, sender_number, accepted_at, body)
  SELECT device_id, s, gen_random_uuid(), gen_random_uuid(), 1, now(), decode(repeat(md5(random()::text), 32), 'hex')
  FROM mailboxes, generate_series(1, 10) s WHERE next_seq = 11 AND pending = 10;
SQL
  sleep 60 # what is measured is a table with a million rows, not the vacuum after a load of a million
  flat_at million
  take flat-churn relay --batch 100 --duration 220s "${there[@]}"
  flat_at churned
}

flat_at() {
  take "flat-$1" relay "${there[@]}"
  take "flat-$1-rate-2000" relay --rate 2000 "${there[@]}"
  take "flat-$1-batch-100" relay --batch 100 "${there[@]}"
  psql -qAt "$url" -c "SELECT relname, pg_total_relation_size(oid) / 1048576 FROM pg_class
    WHERE relname IN ('messages', 'mailboxes', 'receipts_0', 'receipts_1', 'receipts_2') ORDER BY 1" >"$out/flat-$1-mebibytes.txt"
}

for part in "${@:-relay bundles idle backlog connect login loops flat}"; do
  for one in $part; do "$one"; done
done
say "the figures are in $out"
