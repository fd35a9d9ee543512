"""Takes a user's own folder: COCO JSON with its pictures, or one folder per class."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from sandbox.learning.truth import Project


def import_folder(folder: Path) -> list[Project]:
    """Returns the projects of a folder; files stay where they are.

    Raises:
        ImportFolderError: names the file and the field that can't be used.
    """
    raise SystemExit(folder)
