"""One frame of a picture of several, as a JPEG; for this alone Pillow is needed."""

from __future__ import annotations

import io
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from schemas.events import ErrorCode
from worker.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

# Unpacked, a pixel takes 3 or 4 bytes, three times over for a moment.
_MOST_PIXELS: Final = 16_000_000
# A frame is found by unpacking all before it.
_MOST_PIXELS_BEFORE: Final = 500_000_000
_QUALITY: Final = 90


def frame_of(content: bytes, number: int) -> tuple[str, bytes]:
    """Returns the media type and bytes of a frame, upright; it blocks for seconds.

    Raises:
        InputError: there is no such frame, or too much would have to be unpacked.
    """
    try:
        images: Any = import_module("worker.backfill.results.images")
    except ImportError as exc:
        raise _refusal("single frames need Pillow: install trainmaster[report]") from exc
    try:
        with images.pillow_warnings_ignored(), images.open_picture(io.BytesIO(content)) as picture:
            return "image/jpeg", _unpacked(images, picture, number)
    except InputError:
        raise
    except EOFError as exc:
        raise _refusal(f"the picture has no frame {number}") from exc
    except Exception as exc:
        # Pillow says in many ways what it can't read.
        raise _refusal(f"the picture can't be unpacked: {type(exc).__name__}") from exc


def _unpacked(images: Any, picture: Image, number: int) -> bytes:
    width, height = picture.size
    pixels = width * height
    if not 0 < pixels <= _MOST_PIXELS or pixels * (number + 1) > _MOST_PIXELS_BEFORE:
        raise _refusal(f"{width} x {height} pixels are too many for frame {number}")
    turn = images.orientation(picture)
    for each in range(number + 1):
        # One by one: a frame may be larger than the head says, and is not unpacked yet.
        picture.seek(each)
        if picture.size != (width, height):
            raise _refusal("its frames are of several sizes")
    made = io.BytesIO()
    images.upright(images.in_rgb(picture), turn).save(made, "JPEG", quality=_QUALITY)
    return made.getvalue()


def _refusal(message: str) -> InputError:
    return InputError(message, code=ErrorCode.INVALID_INPUT)
