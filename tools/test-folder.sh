#!/usr/bin/env bash
# Prints the folder for what tests write: memory, if there is room and programs may run from there,
# else the one for temporary files. A test that starts PostgreSQL makes a thousand files and removes
# them again; on a disk (ext4) that took half of its processor time.
set -euo pipefail

memory=/dev/shm
room=$((6 << 20)) # KiB: the clusters of a few packages at once, and the binaries of all tests (1.5 GB)

disk="${TMPDIR:-/tmp}"
free="$(df --output=avail -k "$memory" 2>/dev/null | tail -n 1)" || free=0
if [ "${free:-0}" -lt "$room" ] || ! program="$(mktemp "$memory/obscura-XXXXXX" 2>/dev/null)"; then
  echo "$disk"
  exit
fi
trap 'rm -f "$program"' EXIT
printf '#!/bin/sh\n' >"$program" && chmod 700 "$program"
if "$program" 2>/dev/null; then echo "$memory"; else echo "$disk"; fi
