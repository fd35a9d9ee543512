"""Packages for Node.js, where this machine can have them."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

NPM_SECONDS = 300


def install(folder: Path, *packages: str) -> None:
    """Installs packages into a folder; skips the test where node or the registry is missing."""
    npm = shutil.which("npm")
    if npm is None or not shutil.which("node"):
        pytest.skip("node and npm are not on PATH")
    installed = subprocess.run(
        [npm, "install", *packages, "--no-audit", "--no-fund", "--ignore-scripts"],
        cwd=folder,
        capture_output=True,
        timeout=NPM_SECONDS,
        check=False,
    )
    if installed.returncode:
        pytest.skip(f"npm can't install: {installed.stderr.decode()[-300:]}")
