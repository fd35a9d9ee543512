"""Opens pictures, and turns them upright as browsers show them: the API's boxes refer to that.

Only the EXIF block of the picture counts, and in PNG only one that stands before the pixels:
Pillow would look for a later one by decoding all of them, and would take XMP's word too, which
browsers do not.
"""

from __future__ import annotations

from contextlib import contextmanager
from threading import Lock
from typing import IO, TYPE_CHECKING, Final
from warnings import catch_warnings, simplefilter

from PIL import ExifTags, Image, PngImagePlugin

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_UPRIGHT: Final = 1
_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Orientations from here on lay the picture on its side.
_FIRST_LYING: Final = 5
# Pillow refuses to open what has over 178 megapixels, or over 1 MiB of text unpacked; programs
# that make pictures by prompts write more. Nothing is unpacked here but that text.
_MOST_TEXT_BYTES: Final = 64 * 1024 * 1024
_LIMITS = Lock()


def open_picture(file: Path | IO[bytes]) -> Image.Image:
    """Returns a picture whose head is read, however many pixels it has; a context manager.

    Raises:
        Exception: of any class, for Pillow can't read it.
    """
    with _LIMITS:
        pixels, text_bytes = Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK
        Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK = None, _MOST_TEXT_BYTES
        try:
            return Image.open(file)
        finally:
            Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK = pixels, text_bytes


def orientation(picture: Image.Image) -> int:
    """Returns the EXIF orientation of a picture, 1 to 8; 1 where it tells none that is valid.

    Call it before the pixels are loaded, and once for all frames of a file.
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


def upright_size(size: tuple[int, int], turn: int) -> tuple[int, int]:
    """Returns width and height as they are once the picture stands upright."""
    width, height = size
    return (height, width) if turn >= _FIRST_LYING else (width, height)


def upright(picture: Image.Image, turn: int) -> Image.Image:
    """Returns the picture as it is shown, turned or mirrored by its orientation."""
    method = _TURNS.get(turn)
    return picture if method is None else picture.transpose(method)


def in_rgb(picture: Image.Image) -> Image.Image:
    """Returns the picture in RGB; of 16 bits the upper eight, as browsers show them.

    Pillow would cut them off at 255 and leave all white.
    """
    if picture.mode.startswith("I;16"):
        picture = picture.point(lambda value: value * (1 / 256)).convert("L")
    return picture.convert("RGB")


@contextmanager
def pillow_warnings_ignored() -> Iterator[None]:
    """Keeps Pillow's warnings about odd EXIF and large pictures off the terminal."""
    with catch_warnings():
        simplefilter("ignore")
        yield
