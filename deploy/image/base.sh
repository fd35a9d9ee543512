#!/usr/bin/env bash
# Makes a slim Debian with Python, in the manner of python:*-slim, where no registry can be reached.
#
#   deploy/image/base.sh SUITE IMAGE
#
# For example `trixie localhost/python-slim:trixie`. Python is Debian's own, so its version is that of
# the release. Needs root, debootstrap and buildah.
set -euo pipefail

if [[ $# -ne 2 || $1 == -* ]]; then
  sed -n '2,7s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
for program in debootstrap buildah; do
  command -v "$program" >/dev/null || { echo "base.sh: needs $program (apt-get install $program)" >&2; exit 2; }
done
suite=$1
image=$2
root=$(mktemp -d "${TMPDIR:-/tmp}/python-slim.XXXXXX")
container=
leave() {
  [[ -z $container ]] || buildah rm "$container" >/dev/null
  rm -rf "$root" "$root.log"
}
trap leave EXIT

debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates,netbase,tzdata \
  "$suite" "$root" >"$root.log" 2>&1 || { tail -n 5 "$root.log" >&2; exit 1; }

# As Docker's python has it: `python` and `pip` by these names, and a pip that may install.
rm -f "$root"/usr/lib/python3*/EXTERNALLY-MANAGED
chroot "$root" /usr/bin/env -i PATH=/usr/bin:/bin sh -ec '
  for pip in /usr/share/python-wheels/pip-*.whl; do break; done
  python3 "$pip/pip" install --quiet --no-index --no-compile \
    --root-user-action ignore --find-links /usr/share/python-wheels pip
  ln -s /usr/bin/python3 /usr/local/bin/python
'
# As debian:*-slim has it: no pages to read, no languages, but each package's licence.
find "$root/usr/share/doc" -type f -not -name copyright -delete
find "$root/usr/share/doc" -type l -delete
find "$root/usr/share/doc" -type d -empty -delete
rm -rf "$root"/usr/share/{man,info,locale,groff,lintian,linda}/* "$root"/usr/share/python-wheels
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/* "$root"/var/log/* "$root"/debootstrap
find "$root" -name __pycache__ -prune -exec rm -rf {} +
# A container gets its devices from its runtime.
rm -rf "$root"/dev/*

container=$(buildah from scratch)
buildah add --quiet "$container" "$root" / >/dev/null
buildah config --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
  --env LANG=C.UTF-8 --cmd python3 "$container"
buildah commit --quiet --timestamp 0 "$container" "$image" >/dev/null
echo "base.sh: made $image"
