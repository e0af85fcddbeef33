#!/usr/bin/env bash
# fresh-root.sh [CASE...]: does what the README says on a Debian 12 (SUITE=trixie: 13) that has nothing else, which debootstrap makes in a
# folder for temporary files: make run to the first message, make demo, and make test with two Go packages. The cases are root, and user: an
# ordinary one, for whom root runs the line that prerequisites.sh names and nothing more. A case of its own is deb: the life of the Debian
# package in dist. Needs root, on Debian.
# This machine gives its way to the registries of packages, and its caches of Go modules and npm; no package.
# Mounts and processes live in namespaces of their own, which end with this script, even by kill -9. A folder that such an end leaves
# behind goes at the next start.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

suite="${SUITE:-bookworm}"
packages="./internal/batch ./internal/kit/testdb"

if [ "${1:-}" != --inside ]; then
  [ "$(id -u)" = 0 ] || die "fresh-root.sh makes a root of its own, which needs root"
  have debootstrap || apt_install debootstrap
  for old in "${TMPDIR:-/tmp}"/obscura-fresh.*; do
    if [ -d "$old" ]; then flock --nonblock "$old" rm -rf --one-file-system "$old" || true; fi
  done
  scratch="$(mktemp -d "${TMPDIR:-/tmp}/obscura-fresh.XXXXXX")"
  chmod 755 "$scratch"
  exec 8<"$scratch"
  flock 8 # the processes inside have it too
  inside=""
  clean() {
    trap - EXIT
    if [ -n "$inside" ]; then kill -KILL "$inside" 2>/dev/null && wait "$inside" 2>/dev/null || true; fi
    exec 8<&-
    flock --timeout 30 "$scratch" rm -rf --one-file-system "$scratch"
  }
  trap 'status=$?; clean; exit $status' EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  setpriv --pdeathsig KILL unshare --mount --pid --fork --kill-child "${BASH_SOURCE[0]}" --inside "$scratch" "${@:-root user}" &
  inside=$!
  wait "$inside"
  inside=""
  exit
fi

scratch="$2"
shift 2
current="" log="$scratch/relay.log"
trap '[ $? = 0 ] || { echo "=== FAILED: fresh root: $current"; if [ -s "$log" ]; then echo "--- what make run said"; tail -n 60 "$log"; fi; }' EXIT

step() {
  local since=$SECONDS
  current="$1"
  shift
  echo "=== fresh root: $current"
  "$@"
  echo "=== ok: fresh root: $current ($((SECONDS - since)) s)"
}

# What this machine's way to the registries is: nothing of it is written down here.
machine() {
  local name
  settings=()
  for name in {http,https,all,no}_proxy {HTTP,HTTPS,ALL,NO}_PROXY SSL_CERT_FILE SSL_CERT_DIR NODE_EXTRA_CA_CERTS CURL_CA_BUNDLE; do
    if [ -n "${!name:-}" ]; then settings+=("$name=${!name}"); fi
  done
  for name in GOSUMDB GONOSUMDB GONOPROXY GOPRIVATE; do settings+=("$name=$(go env "$name")"); done
  settings+=("GOPROXY=file:///var/cache/modules,$(go env GOPROXY)")
  modules="$(go env GOMODCACHE)/cache/download"
  if have npm; then settings+=("npm_config_registry=$(npm config get registry)" npm_config_prefer_offline=true); fi
}

base() {
  local uris root="$scratch/base" file
  uris="$(apt-get indextargets --format '$(REPO_URI) $(CODENAME) $(COMPONENT)' 'Created-By: Packages' 'Origin: Debian' | grep " $suite" || true)"
  debootstrap --variant=minbase "$suite" "$root" "$(awk -v suite="$suite" '$2 == suite { print $1; exit }' <<<"$uris")" >"$scratch/debootstrap.log" ||
    { tail -n 20 "$scratch/debootstrap.log"; return 1; }
  if [ -n "$uris" ]; then sed 's/^/deb /' <<<"$uris" | sort -u >"$root/etc/apt/sources.list"; fi
  for file in $(grep -lsE '^Acquire::(Check|Retries|ForceIP|http|ftp)' /etc/apt/apt.conf.d/* || true); do cp "$file" "$root/etc/apt/apt.conf.d/"; done
  cp -R /etc/apt/auth.conf.d/. "$root/etc/apt/auth.conf.d/"
  if [ -d /usr/local/share/ca-certificates ]; then cp -R /usr/local/share/ca-certificates/. "$root/usr/local/share/ca-certificates/" 2>/dev/null ||
    cp -R /usr/local/share/ca-certificates "$root/usr/local/share/"; fi
  printf '127.0.0.1 localhost\n' >"$root/etc/hosts"
  printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d" # no init runs there
  chmod 755 "$root/usr/sbin/policy-rc.d"
  echo force-unsafe-io >"$root/etc/dpkg/dpkg.cfg.d/unsafe-io" # nothing of this outlives a crash
  chroot "$root" useradd --create-home newcomer
}

# prepare NAME HOME CHECKOUT OWNER: a fresh copy of the base, with the checkout of somebody.
prepare() {
  root="$scratch/$1" home="$2" checkout="$3"
  cp -a "$scratch/base" "$root"
  mount -t proc proc "$root/proc"
  mount -t devpts devpts "$root/dev/pts"
  mkdir -p "$root/dev/shm" "$root/var/cache/modules" "$root$(dirname "$checkout")" "$root$home/.npm" "$root$home/.cache"
  mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
  if [ -d "$modules" ]; then mount --bind -o ro "$modules" "$root/var/cache/modules"; fi
  git -c safe.directory='*' clone --quiet --no-hardlinks "$repo_root" "$root$checkout"
  if have npm; then cp -a "$(npm config get cache)/_cacache" "$root$home/.npm/" 2>/dev/null || true; fi
  if [ -d "$scratch/go-build" ]; then mv "$scratch/go-build" "$root$home/.cache/"; fi
  grep -sE '^(//|@[^=]*:registry|proxy|https-proxy|noproxy|strict-ssl|cafile)' "$HOME/.npmrc" >"$root$home/.npmrc" || true
  chroot "$root" chown -R "$4" "$checkout"
  chroot "$root" chown -R "$5" "$home"
}

# remove_root: the root goes; what was built stays for the next one.
remove_root() {
  mv "$root$home/.cache/go-build" "$scratch/"
  umount "$root/proc" "$root/dev/pts" "$root/dev/shm"
  if [ -d "$modules" ]; then umount "$root/var/cache/modules"; fi
  rm -rf --one-file-system "$root"
}

# as USER COMMAND: in the checkout, with nothing in the environment but the way to the registries.
as() {
  chroot --userspec="$1" "$root" /usr/bin/env -i HOME="$([ "$1" = root ] && echo /root || echo "$home")" \
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "${settings[@]}" "${relay[@]}" /bin/bash -euo pipefail -c "cd '$checkout'; $2" </dev/null
}

free_port() {
  local port
  while port=$((20000 + RANDOM % 20000)); do
    if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
      echo "$port"
      return
    fi
  done
}

# first_message USER: make run, and twice the commands of the README.
first_message() {
  local api management server turn
  api="127.0.0.1:$(free_port)" management="127.0.0.1:$(free_port)"
  awk '/^```sh run$/ { inside = 1; next } /^```$/ { inside = 0 } inside' "$root$checkout/README.md" | sed "s/127\.0\.0\.1:3000/$api/" >"$root/tmp/walk.sh"
  relay=("OBSCURA_LISTEN=$api" "OBSCURA_MANAGEMENT_LISTEN=$management")
  as "$1" "exec make run" >"$log" 2>&1 &
  server=$!
  until curl --silent --fail --output /dev/null "http://$management/readyz"; do
    kill -0 "$server" 2>/dev/null || { echo "make run ended"; return 1; }
    sleep 1
  done
  relay=()
  for turn in first second; do
    as "$1" "source /tmp/walk.sh" | tee "$scratch/said"
    grep -q '^envelope 1 from .*"hello, Bob"$' "$scratch/said" || { echo "no message came, the $turn time"; return 1; }
  done
  chroot "$root" /bin/bash -c 'for p in /proc/[0-9]*; do if [ "$(readlink $p/exe)" = "$1/bin/obscura" ]; then kill -TERM "${p#/proc/}"; fi; done' - "$checkout"
  wait "$server" || { echo "make run ended with $?"; return 1; }
}

case_root() {
  step "a root, with the checkout of somebody else" prepare root /root /srv/obscura newcomer: root:
  step "root: the README's line of packages" as root "export DEBIAN_FRONTEND=noninteractive; { $(grep -m 1 '^apt-get update' "$repo_root/README.md"); } >/dev/null"
  step "root: make run, which installs the rest, and the first message" first_message root
  step "root: make demo" as root "make demo"
  step "root: make test, two packages of it" as root "make test PACKAGES='$packages'"
  remove_root
}

case_user() {
  local line
  step "a root, with the checkout of an ordinary user in a folder with a space" prepare user /home/newcomer "/home/newcomer/my projects/obscura" newcomer: newcomer:
  current="user: prerequisites.sh names what is missing"
  if as newcomer tools/prerequisites.sh 2>"$scratch/sentence"; then echo "it says that nothing is missing"; return 1; fi
  cat "$scratch/sentence"
  line="$(sed -n 's/^this machine lacks .*, as root: //p' "$scratch/sentence")"
  [ -n "$line" ] || { echo "it names no line"; return 1; }
  step "user: root runs this line" as root "export DEBIAN_FRONTEND=noninteractive; { $line; } >/dev/null"
  step "user: make run and the first message" first_message newcomer
  step "user: make demo" as newcomer "make demo"
  step "user: make test, two packages of it" as newcomer "make test PACKAGES='$packages'"
  remove_root
}

# unit NAME: what the unit of the package says.
unit() { sed -n "s/^$1=//p" "$root/lib/systemd/system/obscura.service"; }

inside() { chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive "$@" </dev/null; }

# service COMMAND: as systemd would run it by the unit, as far as that goes without systemd: account, settings, folder, umask, power.
service() {
  inside $(grep '^[A-Z]' "$root$(unit EnvironmentFile)") setpriv --reuid "$(unit User)" --regid "$(unit Group)" --clear-groups --no-new-privs \
    --bounding-set -all,+net_bind_service /bin/sh -c "umask $(unit UMask); cd $(unit WorkingDirectory); exec $1"
}

# start: the service, until it is ready.
start() {
  service "$(unit ExecStart)" >"$log" 2>&1 &
  server=$!
  until service "obscura healthcheck" >/dev/null 2>&1; do
    kill -0 "$server" 2>/dev/null || { echo "the service ended"; return 1; }
    sleep 1
  done
}

# stop: as systemctl stop does.
stop() {
  chroot "$root" /bin/bash -c 'for p in /proc/[0-9]*; do if [ "$(readlink $p/exe)" = /usr/bin/obscura ]; then kill -TERM "${p#/proc/}"; fi; done'
  wait "$server" || { echo "the service ended with $?"; return 1; }
}

said() { grep -qF -- "$1" "$2" || { echo "$2 does not say: $1"; cat "$2"; return 1; }; }

# post PATH BODY: prints the status.
post() { curl --silent --output "$scratch/answer" --write-out '%{http_code}' -H 'Content-Type: application/json' -d "$2" "http://$api$1"; }

deb_root() {
  root="$scratch/deb"
  cp -a "$scratch/base" "$root"
  mount -t proc proc "$root/proc"
  mount -t devpts devpts "$root/dev/pts"
  mkdir -p "$root/dev/shm"
  mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
  cp "$repo_root/dist/obscura_$(dpkg --print-architecture).deb" "$root/tmp/obscura.deb"
  # The same as an older version, whose settings were fewer.
  dpkg-deb --raw-extract "$root/tmp/obscura.deb" "$scratch/older"
  sed -i 's/^Version: .*/Version: 0.9.0/' "$scratch/older/DEBIAN/control"
  sed -i '/LOG_LEVEL/d' "$scratch/older/etc/obscura/obscura.env"
  dpkg-deb --root-owner-group --build "$scratch/older" "$root/tmp/older.deb" >/dev/null
}

deb_without_postgres() {
  inside apt-get install -y -qq --no-install-recommends /tmp/older.deb >/dev/null
  [ "$(stat -c '%a %U' "$root/etc/obscura/obscura.env")" = "600 root" ]
  [ "$(chroot "$root" stat -c '%a %U' /var/lib/obscura)" = "700 obscura" ]
  [ -L "$root/etc/systemd/system/multi-user.target.wants/obscura.service" ]
  [ -e "$root/lib/systemd/system/obscura.socket" ]
  [ ! -e "$root/etc/systemd/system/sockets.target.wants" ]
  if service "$(unit ExecStart)" >"$log" 2>&1; then echo "it starts without PostgreSQL"; return 1; fi
  said "no PostgreSQL found: install the system's package postgresql" "$log"
}

deb_use() {
  inside apt-get install -y -qq postgresql >/dev/null
  api="127.0.0.1:$(free_port)"
  printf 'OBSCURA_LISTEN=%s\nOBSCURA_MANAGEMENT_LISTEN=127.0.0.1:%s\n' "$api" "$(free_port)" >>"$root/etc/obscura/obscura.env"
  start
  [ "$(post /v1/users '{"username": "carol", "password": "a long password of hers"}')" = 201 ]
  awk '/^```sh run$/ { inside = 1; next } /^```$/ { inside = 0 } inside' "$repo_root/README.md" | sed "s/127\.0\.0\.1:3000/$api/" >"$scratch/walk.sh"
  (cd "$repo_root" && bash -euo pipefail "$scratch/walk.sh") | tee "$scratch/said"
  said '"hello, Bob"' "$scratch/said"
  service "obscura admin invite create" >"$scratch/said" 2>&1
  stop
  # As systemctl enable does it.
  mkdir -p "$root/etc/systemd/system/sockets.target.wants"
  ln -s /lib/systemd/system/obscura.socket "$root/etc/systemd/system/sockets.target.wants/obscura.socket"
}

deb_upgrade() {
  inside apt-get install -y -qq -o Dpkg::Options::=--force-confold /tmp/obscura.deb >/dev/null
  [ "$(chroot "$root" dpkg-query -W -f '${Version}' obscura)" != 0.9.0 ]
  said "OBSCURA_LISTEN=$api" "$root/etc/obscura/obscura.env"
  [ -e "$root/lib/systemd/system/obscura.socket" ]
  [ -L "$root/etc/systemd/system/sockets.target.wants/obscura.socket" ]
  start
  [ "$(post /v1/sessions '{"username": "carol", "password": "a long password of hers"}')" = 200 ]
  stop
}

deb_remove() {
  inside apt-get remove -y -qq obscura >/dev/null
  [ ! -e "$root/usr/bin/obscura" ]
  said "OBSCURA_LISTEN=$api" "$root/etc/obscura/obscura.env"
  inside apt-get install -y -qq -o Dpkg::Options::=--force-confold /tmp/obscura.deb >/dev/null
  start
  [ "$(post /v1/sessions '{"username": "carol", "password": "a long password of hers"}')" = 200 ]
  stop
}

deb_purge() {
  inside apt-get purge -y -qq obscura >/dev/null
  [ ! -e "$root/etc/obscura" ]
  [ ! -e "$root/var/lib/obscura" ]
  if find "$root/etc/systemd" "$root/var/lib/systemd" -name '*obscura*' | grep .; then echo "something is left"; return 1; fi
}

case_deb() {
  step "a root with nothing but Debian, and the package" deb_root
  step "deb: it is installed, and says what it lacks without PostgreSQL" deb_without_postgres
  step "deb: with PostgreSQL it starts; the first message" deb_use
  step "deb: an upgrade keeps accounts and settings" deb_upgrade
  step "deb: a removal keeps them, too" deb_remove
  step "deb: a purge leaves nothing" deb_purge
}

relay=()
# In memory, where there is enough of it: packages are written and read once.
if [ "$(awk '$1 == "MemAvailable:" { print int($2 / 1048576) }' /proc/meminfo)" -ge 16 ]; then mount -t tmpfs -o mode=755,size=12g tmpfs "$scratch"; fi
machine
git -C "$repo_root" -c safe.directory='*' log -1 --format='=== fresh root: of commit %h, %s'
step "a minimal Debian ($suite)" base
for one in $*; do "case_$one"; done
