#!/usr/bin/env bash
# Runs an image without a Docker daemon, by podman, with as few rights as compose.yaml gives it.
#
#   deploy/image/run.sh [PODMAN-OPTION ...] IMAGE [ARGUMENT ...]
#
# For example `--env-file worker.env localhost/trainmaster`. The root is read-only and /tmp in memory;
# no capabilities, no new privileges, 256 MB, 128 processes. It uses this machine's network.
set -euo pipefail

if [[ $# -eq 0 || $1 == --help ]]; then
  sed -n '2,7s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
command -v podman >/dev/null || { echo "run.sh: needs podman (apt-get install podman)" >&2; exit 2; }
# podman has systemd ask for the health; without systemd nobody does.
health=()
[[ -d /run/systemd/system ]] || health=(--no-healthcheck)
# podman would raise these limits, which not every root may.
exec podman --cgroup-manager cgroupfs run --rm --network host --read-only --read-only-tmpfs=false \
  --tmpfs /tmp:size=16m,mode=1777 --cap-drop ALL --security-opt no-new-privileges \
  --ulimit "nofile=$(ulimit -Sn):$(ulimit -Sn)" --ulimit nproc=1024:1024 \
  --memory 256m --pids-limit 128 "${health[@]}" "$@"
