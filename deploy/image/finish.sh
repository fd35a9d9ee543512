#!/usr/bin/env bash
# Strips and compiles what was installed below a prefix; used by the Dockerfile alone.
#
# Compiled modules are trusted by the hash of nothing (unchecked-hash): no times are in them, so they
# are the same in each build, and a start looks at no source. They name the place where they will lie.
set -euo pipefail
prefix=$1
place=/opt/trainmaster

# Libraries that a wheel brought along beside its modules (*.libs) were patched; strip may break those.
find "$prefix" -name '*.so' -type f -not -path '*.libs/*' -exec strip --strip-unneeded {} +
# The sandbox' numpy imports a part of its own tests.
find "$prefix" -type d -name tests -not -path '*/numpy/*' -prune -exec rm -rf {} +
# Sources of Cython and C, types, and scripts for shells.
find "$prefix" -type f \( -name '*.pyx' -o -name '*.pxd' -o -name '*.c' -o -name '*.pyi' \) -delete
rm -f "$prefix"/bin/activate* "$prefix"/bin/Activate.ps1
find "$prefix" -name __pycache__ -prune -exec rm -rf {} +
# But for 7 MB that no service imports: languages to colour, and prompts of Celery's own shell.
"$place"/bin/python -m compileall -q --invalidation-mode unchecked-hash \
  -x '/(pygments/(lexers|styles)/([a-z]|_[a-z_]+_builtins)|prompt_toolkit/|wcwidth/)' -s "$prefix" -p "$place" "$prefix"/lib
