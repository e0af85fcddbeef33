#!/usr/bin/env bash
# ensure-nginx.sh: makes sure of nginx, installing what is missing, and prints the path of the program.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# Debian keeps it where an ordinary user's PATH does not lead.
find_nginx() {
  PATH="$PATH:/usr/sbin:/usr/local/sbin" command -v nginx
}

if find_nginx; then exit; fi
can_apt || die "install nginx (Debian: apt-get install nginx)"
apt_install nginx || die "apt-get could not install nginx: install nginx"
find_nginx || die "nginx was installed, but it is not where it should be"
