"""Masks as COCO JSON has them: lengths of runs of pixels outside and inside, column by column.

Not read by pycocotools, which leaves pixels that the runs don't reach as it found them in memory.

Source: https://github.com/cocodataset/cocoapi/blob/master/common/maskApi.h
"""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

# A character holds five bits of a length, the lowest first, and whether more follow.
_ZERO = ord("0")
_BITS = 5
_MORE = 1 << _BITS
_SIGN = 1 << (_BITS - 1)
# From this one on each length is told by how much it differs from the one but one before.
_FIRST_DIFFERENCE = 3


def read_mask(counts: str | Sequence[int], height: int, width: int) -> NDArray[np.uint8]:
    """Returns a mask, (height, width) of 0 and 1.

    Args:
        counts: lengths as numbers, or in the compressed form.
        height: in pixels.
        width: in pixels.

    Raises:
        ValueError: they are no lengths, or don't fill the picture.
    """
    lengths = read_lengths(counts) if isinstance(counts, str) else list(counts)
    if min(lengths, default=0) < 0 or sum(lengths) != height * width:
        raise ValueError(f"not {height * width} pixels together")
    inside = [value for _, value in zip(lengths, cycle((0, 1)), strict=False)]
    pixels = np.repeat(np.array(inside, np.uint8), lengths)
    return pixels.reshape((height, width), order="F")


def read_lengths(text: str) -> list[int]:
    """Returns the lengths of the compressed form.

    Raises:
        ValueError: it is none.
    """
    lengths: list[int] = []
    value, shift = 0, 0
    for character in text:
        code = ord(character) - _ZERO
        if not 0 <= code < 2 * _MORE:
            raise ValueError(f"{character!r} stands for no length")
        value |= (code & (_MORE - 1)) << shift
        shift += _BITS
        if code & _MORE:
            continue
        if code & _SIGN:
            value -= 1 << shift
        if len(lengths) >= _FIRST_DIFFERENCE:
            value += lengths[-2]
        lengths.append(value)
        value, shift = 0, 0
    if shift:
        raise ValueError("the last length is cut off")
    return lengths
