"""A picture to draw on: shapes by OpenCV, letters by Pillow, which has the better ones."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final, TypeAlias

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

Color: TypeAlias = tuple[int, int, int]

_SUBPIXEL_BITS: Final = 4
_SHADOW: Final = (0, 0, 0)
_JPEG_QUALITY: Final = 92
_TAG_PADDING: Final = 4


class Canvas:
    """Pixels in RGB; letters are put on last, above all shapes."""

    def __init__(self, width: int, height: int, ground: Color) -> None:
        self.pixels: NDArray[np.uint8] = np.full((height, width, 3), ground, np.uint8)
        self._letters: list[tuple[tuple[int, int], str, Color, int]] = []

    @property
    def width(self) -> int:
        """In pixels."""
        return int(self.pixels.shape[1])

    def paste(self, picture: NDArray[np.uint8], left: int, top: int) -> None:
        """Puts a picture (h, w, 3) down."""
        height, width = picture.shape[:2]
        self.pixels[top : top + height, left : left + width] = picture

    def outline(self, points: NDArray[np.float64], color: Color, thickness: int = 2) -> None:
        """Draws a closed line through points (n, 2), in pixels, with a shadow below."""
        fixed = _fixed(points)
        self._line(fixed, _SHADOW, thickness + 2, closed=True)
        self._line(fixed, color, thickness, closed=True)

    def fill(self, points: NDArray[np.float64], color: Color, share: float) -> None:
        """Tints what lies inside points (n, 2); `share` 1 hides what was there."""
        tinted = self.pixels.copy()
        cv2.fillPoly(tinted, [_fixed(points)], color, cv2.LINE_AA, _SUBPIXEL_BITS)
        self.pixels = cv2.addWeighted(tinted, share, self.pixels, 1 - share, 0).astype(np.uint8)

    def trail(self, points: NDArray[np.float64], color: Color) -> None:
        """Draws the way of something, oldest point first, with a dot at each."""
        fixed = _fixed(points)
        self._line(fixed, _SHADOW, 4, closed=False)
        self._line(fixed, color, 2, closed=False)
        for x, y in fixed.tolist():
            radius = 3 << _SUBPIXEL_BITS
            cv2.circle(self.pixels, (x, y), radius, color, -1, cv2.LINE_AA, _SUBPIXEL_BITS)

    def box(self, left: int, top: int, width: int, height: int, color: Color) -> None:
        """Fills a rectangle."""
        self.pixels[max(0, top) : top + height, max(0, left) : left + width] = color

    def text(self, left: int, top: int, text: str, color: Color, size: int) -> int:
        """Writes a line, top left corner given; returns its width in pixels."""
        self._letters.append(((left, top), text, color, size))
        return text_width(text, size)

    def tag(self, left: int, bottom: int, text: str, color: Color, size: int) -> None:
        """Writes on a label of its own, which stays inside the canvas."""
        width, height = text_width(text, size) + 2 * _TAG_PADDING, size + _TAG_PADDING
        left = max(0, min(left, self.width - width))
        top = max(0, bottom - height)
        self.box(left, top, width, height, color)
        ink = (0, 0, 0) if _lightness(color) > 140 else (255, 255, 255)
        self.text(left + _TAG_PADDING, top + 1, text, ink, size)

    def save(self, file: Path) -> None:
        """Writes a JPEG."""
        picture = Image.fromarray(self.pixels)
        draw = ImageDraw.Draw(picture)
        for where, text, color, size in self._letters:
            draw.text(where, text, color, _font(size))
        picture.save(file, quality=_JPEG_QUALITY, subsampling=0)

    def _line(
        self, fixed: NDArray[np.int32], color: Color, thickness: int, *, closed: bool
    ) -> None:
        cv2.polylines(self.pixels, [fixed], closed, color, thickness, cv2.LINE_AA, _SUBPIXEL_BITS)


def text_width(text: str, size: int) -> int:
    """Returns how many pixels wide a line is."""
    return round(_font(size).getlength(text))


def parse_color(text: str) -> Color:
    """Returns #rrggbb as numbers."""
    red, green, blue = bytes.fromhex(text.removeprefix("#"))
    return red, green, blue


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _fixed(points: NDArray[np.float64]) -> NDArray[np.int32]:
    # OpenCV puts a pixel's centre at whole numbers, we at halves.
    return np.round((points - 0.5) * (1 << _SUBPIXEL_BITS)).astype(np.int32)


def _lightness(color: Color) -> float:
    red, green, blue = color
    return 0.299 * red + 0.587 * green + 0.114 * blue
