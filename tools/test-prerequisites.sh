#!/usr/bin/env bash
# test-prerequisites.sh: shows what tools/prerequisites.sh says and does on machines that lack things. Such a machine is a folder of
# programs that is the whole PATH, and a copy of the scripts. Needs no network. How root installs is shown by tools/fresh-root.sh.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT
copy="$scratch/a copy" programs="$scratch/programs"
mkdir -p "$copy/tools" "$programs"
cp "$repo_root/go.mod" "$copy/"
cp "$repo_root"/tools/{lib,needs,prerequisites}.sh "$copy/tools/"
for program in bash basename cat chmod cp cut dirname find getent grep ln mkdir mv paste readlink rm sed sort touch tr uname; do
  ln -s "$(command -v "$program")" "$programs/$program"
done

# program NAME TEXT: a script of that name.
program() {
  printf '#!/bin/bash\n%s\n' "$2" >"$programs/$1"
  chmod +x "$programs/$1"
}

# The go command of a version, with its GOTOOLCHAIN; it has a toolchain to hand out.
go_command() {
  program go "case \"\$*\" in version) echo go version go$1 linux/amd64 ;; 'env GOTOOLCHAIN') echo '$2' ;; env*) echo any ;;
    mod*) printf '{\n\t\"Dir\": \"$scratch/module\"\n}\n' ;; esac"
}

# wants STATUS TEXT NAME...: what the script says about the names.
wants() {
  local status=0 said want="$1" text="$2"
  shift 2
  said="$(env -i HOME="$scratch" PATH="$programs" "${with[@]}" "$programs/bash" "$copy/tools/prerequisites.sh" "$@" 2>&1)" || status=$?
  if [ "$status" != "$want" ] || [ "$said" != "$text" ]; then
    die "FAILED: prerequisites.sh $* ended with $status, want $want, and said:"$'\n'"$said"$'\n'"want:"$'\n'"$text"
  fi
  say "ok: ${text:-everything there for $*}"
}

with=()
program id "echo 1000"
# These are looked for in folders that a PATH does not hide.
certificates="" certificates_package="" postgres="" postgres_package="" pgbouncer="" pgbouncer_package=""
[ -s /etc/ssl/certs/ca-certificates.crt ] || certificates="CA certificates, " certificates_package="ca-certificates "
[ -n "$(compgen -G '/usr/lib/postgresql/*/bin/initdb')" ] || postgres=", PostgreSQL 15 or newer" postgres_package=" postgresql"
[ -x /usr/sbin/pgbouncer ] || pgbouncer=", PgBouncer" pgbouncer_package=" pgbouncer"
brings="on Debian this brings it, as root: apt-get update && apt-get install -y --no-install-recommends"
all="this machine lacks ${certificates}curl, make, git, Go, a C compiler$postgres$pgbouncer and Node.js 20 or newer with npm; \
$brings ${certificates_package}curl make git golang-go gcc libc6-dev$postgres_package$pgbouncer_package nodejs npm"
wants 1 "$all"
wants 1 "$all" go

for name in curl make git gcc npm; do program "$name" ""; done
program node "exit 0"
program pgbouncer ""
program postgres ""
program initdb ""
wants 1 "this machine lacks Go; $brings golang-go" go
go_command 1.27.2 local
wants 0 ""
go_command 1.24.4 auto
wants 0 ""
go_command 1.24.4 go1.27.1
wants 0 ""
go_command 1.24.4 local
wants 1 "this machine lacks Go 1.26.0 (Go 1.24.4 may not fetch it, because GOTOOLCHAIN is local: set it to auto)"
go_command 1.19.8 ""
with=(GOTOOLCHAIN=local)
wants 1 "this machine lacks Go 1.26.0 (Go 1.19.8 may not fetch it, because GOTOOLCHAIN is local: set it to auto)"
rm "$programs/gcc"
with=()
wants 0 "" make curl
wants 1 "this machine lacks a C compiler; $brings gcc libc6-dev" cc

# Debian 12's Go is too old to fetch what go.mod names; it can fetch it as a module.
toolchain="$(sed -n 's/^toolchain go//p' "$repo_root/go.mod")"
mkdir -p "$scratch/module/bin" "$scratch/module/pkg/tool/any" "$scratch/module/src"
printf '#!/bin/bash\necho go version go%s any/any\n' "$toolchain" >"$scratch/module/bin/go"
touch "$scratch/module/bin/gofmt" "$scratch/module/pkg/tool/any/compile" "$scratch/module/src/_go.mod"
chmod -R a-w,a-x+X "$scratch/module"
wants 0 "fetching Go $toolchain, with Go 1.19.8" go
wants 0 "" go
[[ "$("$copy/.tools/bin/go" version)" = *"go$toolchain "* ]] || die "FAILED: .tools/bin/go is not Go $toolchain"
[ -e "$copy/.tools/go/src/go.mod" ] && [ -x "$copy/.tools/go/pkg/tool/any/compile" ] || die "FAILED: the toolchain is not unpacked"
go_command 1.24.4 auto
wants 0 "" go
if [ -e "$copy/.tools/bin/go" ]; then die "FAILED: the system's Go does, and .tools/bin/go is still before it"; fi
chmod -R u+w "$scratch/module"
