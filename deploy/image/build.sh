#!/usr/bin/env bash
# Builds the images without a Docker daemon, by buildah: the same layers from the same commit.
#
#   deploy/image/build.sh [--base IMAGE] [--no-cache] [TARGET ...]
#
# TARGET is worker or sandbox, both if none is named; the images are localhost/trainmaster and
# localhost/trainmaster-sandbox. Times are those of SOURCE_DATE_EPOCH, else of the last commit.
# pip uses PIP_INDEX_URL, PIP_EXTRA_INDEX_URL, PIP_TRUSTED_HOST and PIP_CERT, or pip's own
# configuration of this machine where pip is here.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

usage() { sed -n '2,9s/^# \{0,1\}//p' deploy/image/build.sh >&2; exit 2; }
base=
options=(--layers)
while [[ ${1:-} == -* ]]; do
  case $1 in
    --base) base=${2:-} && [[ -n $base ]] || usage; shift 2 ;;
    --no-cache) options+=(--no-cache); shift ;;
    *) usage ;;
  esac
done
for target; do [[ $target == worker || $target == sandbox ]] || usage; done
targets=("${@:-worker}")
[[ $# -gt 0 ]] || targets=(worker sandbox)
command -v buildah >/dev/null || { echo "build.sh: needs buildah (apt-get install buildah)" >&2; exit 2; }

epoch=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)

# What pip is told, as the build's secrets: they are in no layer.
private=$(mktemp -d)
trap 'rm -rf "$private"' EXIT
setting() {
  local variable=PIP_${1^^}
  variable=${variable//-/_}
  echo "${!variable:-$(python3 -m pip config get "global.$1" 2>/dev/null || true)}"
}
{
  echo "[global]"
  for name in index-url extra-index-url trusted-host timeout proxy; do
    value=$(setting "$name")
    # Folders of this machine are not there in a container.
    [[ -z $value || $value == *file:* ]] || echo "$name = $value"
  done
} >"$private/pip.conf"
secrets=(--secret "id=pip,src=$private/pip.conf")
authorities=$(setting cert)
[[ -z $authorities ]] || secrets+=(--secret "id=ca,src=$authorities")

for target in "${targets[@]}"; do
  name=localhost/trainmaster
  [[ $target == worker ]] || name+=-$target
  buildah build --isolation chroot --format docker "${options[@]}" --target "$target" \
    --timestamp "$epoch" "${secrets[@]}" ${base:+--build-arg "PYTHON_IMAGE=$base"} \
    --build-arg "VERSION=$version" \
    --build-arg "REVISION=$(git rev-parse HEAD 2>/dev/null || true)" \
    --build-arg "CREATED=$(date --utc --date "@$epoch" +%Y-%m-%dT%H:%M:%SZ)" \
    --tag "$name:$version" --tag "$name:latest" .
done
