#!/usr/bin/env bash
# Runs both commands of the README on a bare Debian: Python, venv and git, no compiler, no Redis, no ps.
#
#   tests/machines/bare_debian.sh SUITE [COMMAND ...]
#
# SUITE is a release or `sid`; without a COMMAND it runs `demo` and `test` of dev.py, as a user
# without rights. Needs root, debootstrap, a network, and 4 GB below TMPDIR. Exits with the first
# code that is not 0.
set -euo pipefail

if [[ $# -lt 1 || $1 == -* ]]; then
  sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
if [[ $(id -u) -ne 0 ]] || ! command -v debootstrap >/dev/null; then
  echo "bare_debian.sh: needs root and debootstrap (apt-get install debootstrap)" >&2
  exit 2
fi
suite=$1
shift
commands=("${@:-demo}")
[[ $# -eq 0 ]] && commands=(demo test)

here=$(git -C "$(dirname "${BASH_SOURCE[0]}")" rev-parse --show-toplevel)
root=$(mktemp -d "${TMPDIR:-/tmp}/bare-debian.XXXXXX")
chmod 755 "$root"
leave() {
  for place in dev/shm dev proc; do
    mountpoint -q "$root/$place" && umount --recursive --lazy "$root/$place"
  done
  rm -rf "$root"
}
trap leave EXIT

debootstrap --variant=minbase --include=python3,python3-venv,git,ca-certificates \
  "$suite" "$root" >"$root.log" 2>&1 || { tail -n 5 "$root.log" >&2; exit 1; }
rm -f "$root.log"
mount -t proc proc "$root/proc"
mount --rbind --make-rslave /dev "$root/dev"
mountpoint -q "$root/dev/shm" || mount -t tmpfs tmpfs "$root/dev/shm"
# Names and certificates of this machine's network; the rest is Debian's own.
cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"

chroot "$root" useradd --create-home user
git clone --quiet --no-hardlinks "$here" "$root/home/user/trainmaster"
chroot "$root" chown -R user:user /home/user
chroot "$root" python3 --version
for command in "${commands[@]}"; do
  chroot --userspec=user:user "$root" /usr/bin/env -i \
    HOME=/home/user LANG=C.UTF-8 PATH=/usr/bin:/bin PIP_CERT=/etc/ssl/certs/ca-certificates.crt \
    sh -c "cd ~/trainmaster && python3 dev.py $command"
done
