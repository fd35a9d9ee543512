"""What lies at a path, where whatever keeps us from looking means that nothing does.

Before Python 3.14, those of `pathlib` raise where a folder may not be entered, or a name is
too long.
"""

from __future__ import annotations

import os.path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def is_there(path: str | Path) -> bool:
    """Tells whether something lies at a path that we can see; of a link, what it leads to."""
    return os.path.exists(path)  # noqa: PTH110 - never raises


def is_file(path: str | Path) -> bool:
    """Tells whether a plain file lies at a path that we can see."""
    return os.path.isfile(path)  # noqa: PTH113 - never raises


def is_folder(path: str | Path) -> bool:
    """Tells whether a folder lies at a path that we can see."""
    return os.path.isdir(path)  # noqa: PTH112 - never raises
