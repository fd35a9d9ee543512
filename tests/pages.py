"""What the pages of the project show, to be run as it stands there, by Node.js too."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
NPM_SECONDS = 300


def snippet(page: str, language: str, marker: str) -> str:
    """Returns the one fenced block of a language that holds the marker."""
    blocks: list[str] = re.findall(rf"^```{language}\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    (found,) = [block for block in blocks if marker in block]
    return found


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


def anchors(page: Path) -> set[str]:
    """Returns the anchors of a page's headings, as GitHub makes them."""
    found = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in found}
