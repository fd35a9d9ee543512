"""Fits pictures into a net's square input, and maps coordinates there and back.

Coordinates are 0 to 1 of the picture or of the square; in pixels, pixel i covers i to i + 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BORDER = (128, 128, 128)


@dataclass(frozen=True, slots=True)
class View:
    """How a picture lies in the square: `scale` and `shift` take 0 to 1 of it to 0 to 1 there."""

    scale: NDArray[np.float64]
    shift: NDArray[np.float64]

    def to_square(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Maps points (…, 2) of the picture to the square."""
        return points * self.scale + self.shift

    def to_picture(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Maps points (…, 2) of the square to the picture."""
        return (points - self.shift) / self.scale


def shrunk(picture: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Returns the picture no larger than the square, every pixel of the original counted."""
    height, width = picture.shape[:2]
    share = side / max(height, width)
    if share >= 1:
        return picture
    size = (max(1, round(width * share)), max(1, round(height * share)))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def letterbox(picture: NDArray[np.uint8]) -> View:
    """Returns the view that shows the whole picture as large as it goes, in the middle."""
    height, width = picture.shape[:2]
    scale = np.array([width, height]) / max(width, height)
    return View(scale, (1 - scale) / 2)


def varied(view: View, rng: np.random.Generator) -> View:
    """Returns the view somewhat nearer or farther, aside, and mirrored half of the time."""
    scale = view.scale * rng.uniform(0.8, 1.2)
    shift = (1 - scale) / 2 + rng.uniform(-0.1, 0.1, 2)
    if rng.random() < 0.5:
        mirror = np.array([-1.0, 1.0])
        return View(scale * mirror, np.array([1 - shift[0], shift[1]]))
    return View(scale, shift)


def seen(picture: NDArray[np.uint8], view: View, side: int) -> NDArray[np.uint8]:
    """Returns what the view shows, (side, side, 3), grey where the picture ends."""
    size = np.array(picture.shape[1::-1])
    scale = view.scale * side / size
    # OpenCV puts a pixel's centre at whole numbers, we at halves.
    shift = view.shift * side + 0.5 * scale - 0.5
    matrix = np.array([[scale[0], 0, shift[0]], [0, scale[1], shift[1]]])
    flags = cv2.INTER_LINEAR
    square = cv2.warpAffine(picture, matrix, (side, side), flags=flags, borderValue=_BORDER)
    return np.asarray(square, np.uint8)
