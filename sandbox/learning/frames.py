"""Reads the frames of pictures, clips and image groups.

A picture or a clip is anything that Pillow reads (PNG, JPEG, WebP, TIFF, GIF, …), as a file or
as bytes; an image group is a folder of numbered pictures, one frame each, in the order of their
numbers. Colours come as RGB, and upright, as the EXIF orientation says and browsers show it: that
of the picture's EXIF block, which in PNG stands before the pixels.
"""

from __future__ import annotations

import re
import struct
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from sandbox.learning.errors import FrameRangeError, UnreadableMediaError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

PICTURE_SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tif", ".tiff"))
"""The files of a folder that are taken for pictures, in lower case."""

# A picture of more pixels would take gigabytes once unpacked, however small its file is.
_MOST_PIXELS = 64_000_000

# What Pillow lets through from its decoders when the bytes are broken.
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)

_UPRIGHT = 1
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# EXIF's orientations from here on lay the picture on its side.
_FIRST_LYING_ORIENTATION = 5


class Extent(NamedTuple):
    """Frames of a source; width and height of the first in pixels, turned as they are read."""

    frames: int
    width: int
    height: int


def count_frames(source: Path | bytes) -> int:
    """Returns how many frames the source has, at least 1.

    Raises:
        UnreadableMediaError: no picture can be read from it.
    """
    if isinstance(source, Path) and source.is_dir():
        return len(_group(source))
    with _opened(source) as picture:
        return int(getattr(picture, "n_frames", 1))


def measure(source: Path) -> Extent:
    """Returns how large the source is, from its head alone.

    Raises:
        UnreadableMediaError: no picture can be read from it.
    """
    group = _group(source) if source.is_dir() else None
    with _opened(group[0] if group else source) as picture:
        width, height = picture.size
        if _orientation(picture) >= _FIRST_LYING_ORIENTATION:
            width, height = height, width
        frames = len(group) if group else int(getattr(picture, "n_frames", 1))
    return Extent(frames, width, height)


def read_frames(
    source: Path | bytes, first: int = 0, last: int | None = None
) -> Iterator[NDArray[np.uint8]]:
    """Returns the frames from `first` to `last`, both included, as RGB (h, w, 3).

    The range is checked at the call, before the first frame is asked for.

    Raises:
        FrameRangeError: the range is empty or reaches outside the source.
        UnreadableMediaError: no picture can be read from it; also while iterating.
    """
    count = count_frames(source)
    end = count - 1 if last is None else last
    if not 0 <= first <= end < count:
        raise FrameRangeError(
            f"frames {first} to {end} were asked for, the item has {count}: 0 to {count - 1}"
        )
    if isinstance(source, Path) and source.is_dir():
        return _group_frames(_group(source)[first : end + 1])
    return _clip_frames(source, first, end)


def pictures_below(folder: Path) -> list[Path]:
    """Returns the pictures right in a folder, in the order of the numbers in their names."""
    files = (each for each in folder.iterdir() if each.suffix.lower() in PICTURE_SUFFIXES)
    return sorted((each for each in files if not each.name.startswith(".")), key=_by_number)


def _by_number(file: Path) -> tuple[list[tuple[int, str]], str]:
    """Sorts 9.png before 10.png."""
    parts = re.findall(r"\d+|\D+", file.stem)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts], file.name


def _group(folder: Path) -> list[Path]:
    files = pictures_below(folder)
    if not files:
        raise UnreadableMediaError(f"the image group {folder.name} holds no picture")
    return files


def _group_frames(files: list[Path]) -> Iterator[NDArray[np.uint8]]:
    for file in files:
        with _opened(file) as picture:
            yield _rgb(picture, _orientation(picture))


def _clip_frames(source: Path | bytes, first: int, last: int) -> Iterator[NDArray[np.uint8]]:
    with _opened(source) as picture:
        orientation = _orientation(picture)
        for number in range(first, last + 1):
            # A GIF's frame builds on the one before: Pillow replays up to the one asked for.
            picture.seek(number)
            yield _rgb(picture, orientation)


def _rgb(picture: Image.Image, orientation: int) -> NDArray[np.uint8]:
    if picture.mode.startswith("I;16"):
        # Of 16 bits the upper eight, as browsers show them; Pillow would leave all white.
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    shown = picture.convert("RGB")
    turn = _TURNS.get(orientation)
    return np.asarray(shown if turn is None else shown.transpose(turn))


def _orientation(picture: Image.Image) -> int:
    """Returns the EXIF orientation, 1 to 8, of a picture whose pixels are not loaded yet.

    The worker measures and draws by the same rule, in `worker.backfill.results.images`. Pillow's
    own would decode all of a PNG to look for EXIF behind the pixels, and asks XMP too; browsers do
    neither.
    """
    if picture.format == "TIFF":
        # Pillow turns these itself, sizes included.
        return _UPRIGHT
    exif = Image.Exif()
    try:
        exif.load(picture.info.get("exif") or b"")
        told = exif.get(ExifTags.Base.Orientation)
        return told if told in _TURNS else _UPRIGHT
    except Exception:  # noqa: BLE001 - broken EXIF fails in many ways and is shown as if it had none
        return _UPRIGHT


@contextmanager
def _opened(source: Path | bytes) -> Iterator[Image.Image]:
    name = source.name if isinstance(source, Path) else f"the data ({len(source)} bytes)"
    try:
        with Image.open(BytesIO(source) if isinstance(source, bytes) else source) as picture:
            if picture.width * picture.height > _MOST_PIXELS:
                raise UnreadableMediaError(f"{name} has more than {_MOST_PIXELS} pixels")
            yield picture
    except FileNotFoundError as error:
        raise UnreadableMediaError(f"{name} does not exist") from error
    except UnidentifiedImageError as error:
        # Pillow names the object in memory that it was given.
        raise UnreadableMediaError(f"{name} can't be read as a picture") from error
    except _BROKEN as error:
        raise UnreadableMediaError(f"{name} can't be read as a picture: {error}") from error
