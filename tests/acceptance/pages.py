"""What the pages of the project show, to be run as it stands there."""

from __future__ import annotations

import re


def snippet(page: str, language: str, marker: str) -> str:
    """Returns the one fenced block of a language that holds the marker."""
    blocks: list[str] = re.findall(rf"^```{language}\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    (found,) = [block for block in blocks if marker in block]
    return found
