"""Reads the frames of pictures, clips and image groups."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray


def count_frames(source: Path | bytes) -> int:
    """Returns how many frames the source has, at least 1.

    Raises:
        UnreadableMediaError: no picture can be read from it.
    """
    raise SystemExit(source)


def read_frames(
    source: Path | bytes, first: int = 0, last: int | None = None
) -> Iterator[NDArray[np.uint8]]:
    """Returns the frames from `first` to `last`, both included, as RGB (h, w, 3).

    The range is checked at the call, before the first frame is asked for.

    Raises:
        FrameRangeError: the range is empty or reaches outside the source.
        UnreadableMediaError: no picture can be read from it; also while iterating.
    """
    raise SystemExit((source, first, last))
