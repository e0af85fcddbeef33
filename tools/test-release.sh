#!/usr/bin/env bash
# test-release.sh: that a release is what it says. Builds it twice, from different folders and with different settings of the machine
# (FRESH=1: and compiles everything twice, which takes minutes), and compares every byte; looks into what was built with programs of
# others; and lets npm say what it would publish.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

tag="$("$repo_root/tools/ensure-release.sh")"
dist="$repo_root/dist" scratch="$(mktemp -d)"
trap 'chmod -R u+w "$scratch"; rm -rf "$scratch"' EXIT

# same FOLDER FOLDER: whether both hold the same files with the same bytes.
same() { diff --recursive --brief --exclude=.of "$1" "$2"; }

say "the second build"
git -c safe.directory='*' clone --quiet "$repo_root" "$scratch/a folder"
git -C "$scratch/a folder" checkout --quiet "$(cut -d' ' -f2 "$dist/.of")"
(
  umask 077
  if [ -n "${FRESH:-}" ]; then export GOCACHE="$scratch/cache"; fi
  cd "$scratch/a folder/tools/release"
  go build -o "$scratch/release" .
  TZ=Asia/Kathmandu LC_ALL=C.UTF-8 TMPDIR="$scratch" GOFLAGS=-trimpath=false GOAMD64=v3 SOURCE_DATE_EPOCH=1 \
    "$scratch/release" -tag "$tag" -out "$scratch/dist" >/dev/null
)
same "$dist" "$scratch/dist" || die "two builds of a commit differ"
# The comparison finds a byte.
printf x >>"$scratch/dist/obscura_arm64.deb"
if same "$dist" "$scratch/dist" >/dev/null; then die "the comparison finds nothing"; fi

say "what the binaries say"
have qemu-aarch64 || have qemu-aarch64-static || apt_install qemu-user
qemu="$(command -v qemu-aarch64 || command -v qemu-aarch64-static)"
commit="$(cut -d' ' -f2 "$dist/.of")"
at="$(TZ=UTC git -C "$repo_root" log -1 --date=iso-strict-local --format=%cd "$commit")"
toolchain="$(sed -n 's/^toolchain //p' "$repo_root/go.mod")"
for arch in amd64 arm64; do
  run=()
  if [ "$arch" != "$(dpkg --print-architecture)" ] && [ "$arch" = arm64 ]; then run=("$qemu"); fi
  says="$("${run[@]}" "$dist/obscura_linux_$arch" version)"
  [ "$says" = "obscura $tag, commit $commit of ${at/+00:00/Z}, $toolchain linux/$arch" ] || die "obscura version says: $says"
  if readelf --program-headers "$dist/obscura_linux_$arch" | grep INTERP; then die "the binary for $arch is not static"; fi
  if readelf --section-headers "$dist/obscura_linux_$arch" | grep -E '\.symtab|\.debug'; then die "the binary for $arch is not stripped"; fi
  # The bill of materials has every module that Go names, and the standard library.
  diff <({ go version -m "$dist/obscura_linux_$arch" | awk '$1 == "dep" { print $2 "@" $3 }'; echo "std@${toolchain/go/v}"; } | sort) \
    <(node -e 'const b = JSON.parse(require("fs").readFileSync(process.argv[1]));
      if (b.bomFormat !== "CycloneDX") throw new Error("no CycloneDX");
      for (const c of b.components) console.log(`${c.name}@${c.version}`)' "$dist/obscura_linux_$arch.cdx.json" | sed 's/^std@go/std@v/' | sort) ||
    die "the bill of materials for $arch is not that of the binary"
done
(cd "$dist" && sha256sum --quiet --check SHA256SUMS)

# The guide tells the size, in MB.
told="$(sed -nE 's/.*The binary has ([0-9]+) MB.*/\1/p' "$repo_root/docs/operations.md")"
size="$(($(stat -c %s "$dist/obscura_linux_amd64") / 1000000))"
[ -n "$told" ] && [ $((size > told ? size - told : told - size)) -le 2 ] || die "the binary has $size MB, and docs/operations.md says ${told:-nothing}"

say "what npm would publish"
cd "$scratch/a folder/clients/ts"
npm_ci >/dev/null
npm run --silent prepack >/dev/null
npm publish --dry-run --ignore-scripts --tag latest --loglevel=error --json >"$scratch/published.json" </dev/null
node -e '
  const [file, tag] = process.argv.slice(1), said = JSON.parse(require("node:fs").readFileSync(file));
  const { name, version, files, size } = said.files ? said : Object.values(said)[0];
  console.log(`${name} ${version}, ${files.length} files, ${size} bytes`);
  if (`v${version}` !== tag) throw new Error(`clients/ts/package.json has not the version of ${tag}`);' "$scratch/published.json" "$tag"
