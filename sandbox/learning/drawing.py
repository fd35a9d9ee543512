"""Draws one frame: a patterned ground, and shapes on it, with light noise.

Coordinates are pixels, x to the right and y down; pixel i covers i to i + 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

Outline: TypeAlias = NDArray[np.float64]
"""(n, 2) x y, closed by itself."""

_SUBPIXEL_BITS = 4
_NOISE_LEVELS = 5.0


class Shape(StrEnum):
    """What a thing looks like, whatever an ontology calls it."""

    CIRCLE = "circle"
    SQUARE = "square"
    TRIANGLE = "triangle"
    STAR = "star"
    MOON = "moon"
    CROSS = "cross"


class Pattern(StrEnum):
    """What the ground looks like, whatever an ontology calls it."""

    PLAIN = "plain"
    STRIPES = "stripes"
    DOTS = "dots"


@dataclass(frozen=True, slots=True)
class Ground:
    """The ground of a frame; `period` in pixels, `angle` in radians, colours RGB."""

    pattern: Pattern
    color: NDArray[np.float64]
    accent: NDArray[np.float64]
    period: float
    angle: float


def unit_outline(shape: Shape) -> Outline:
    """Returns the outline of a shape about the origin, no point farther than 1 from it."""
    match shape:
        case Shape.CIRCLE:
            return _ring(32)
        case Shape.SQUARE:
            return _ring(4)
        case Shape.TRIANGLE:
            return _ring(3)
        case Shape.STAR:
            radii = np.where(np.arange(10) % 2 == 0, 1.0, 0.45)
            return _ring(10) * radii[:, None]
        case Shape.MOON:
            return _moon()
        case Shape.CROSS:
            arm = 0.3
            quarter = np.array([[arm, -0.95], [arm, -arm], [0.95, -arm]])
            return np.concatenate([_turned(quarter, turn * np.pi / 2) for turn in range(4)])


def placed(outline: Outline, *, centre: Outline, radius: float, angle: float) -> Outline:
    """Returns the outline turned by `angle`, scaled to `radius` and moved to `centre`."""
    return _turned(outline, angle) * radius + centre


def draw_ground(ground: Ground, width: int, height: int) -> NDArray[np.float64]:
    """Returns the ground as RGB (height, width, 3), 0 to 255."""
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    u = (x * np.cos(ground.angle) + y * np.sin(ground.angle)) * (2 * np.pi / ground.period)
    v = (y * np.cos(ground.angle) - x * np.sin(ground.angle)) * (2 * np.pi / ground.period)
    match ground.pattern:
        case Pattern.PLAIN:
            share = np.zeros_like(u)
        case Pattern.STRIPES:
            share = np.clip(np.sin(u) * 2 + 0.5, 0, 1)
        case Pattern.DOTS:
            share = np.clip((np.sin(u) + np.sin(v) - 0.9) * 2, 0, 1)
    return ground.color + share[..., None] * (ground.accent - ground.color)


def paint(
    canvas: NDArray[np.float64], outline: Outline, color: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Returns the canvas with the filled outline on it, lit from above, its edge smooth."""
    scale = 1 << _SUBPIXEL_BITS
    # OpenCV puts a pixel's centre at whole numbers, we at halves.
    points = np.round((outline - 0.5) * scale).astype(np.int32)
    cover = np.zeros(canvas.shape[:2], np.uint8)
    cv2.fillPoly(cover, [points], 255, lineType=cv2.LINE_AA, shift=_SUBPIXEL_BITS)
    top, bottom = outline[:, 1].min(), outline[:, 1].max()
    depth = (np.arange(canvas.shape[0]) + 0.5 - top) / max(bottom - top, 1.0)
    light = np.clip(1.12 - 0.24 * depth, 0.88, 1.12)[:, None, None]
    share = cover[..., None] / 255.0
    return canvas * (1 - share) + color * light * share


def finish(canvas: NDArray[np.float64], noise: np.random.Generator) -> NDArray[np.uint8]:
    """Returns the canvas as a picture, with the noise of a camera."""
    noisy = canvas + noise.normal(0.0, _NOISE_LEVELS, canvas.shape)
    return np.clip(np.round(noisy), 0, 255).astype(np.uint8)


def _ring(points: int) -> Outline:
    angles = np.arange(points) * (2 * np.pi / points) - np.pi / 2
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _moon() -> Outline:
    """A disc less a smaller one to its right."""
    horn = np.deg2rad(48)
    outer = np.linspace(horn, 2 * np.pi - horn, 24)
    tip = np.array([np.cos(horn), np.sin(horn)])
    centre, reach = 0.55, np.hypot(tip[0] - 0.55, tip[1])
    inner_horn = np.arctan2(tip[1], tip[0] - centre)
    inner = np.linspace(2 * np.pi - inner_horn, inner_horn, 16)[1:-1]
    back = np.stack([np.cos(outer), np.sin(outer)], axis=1)
    front = np.stack([centre + reach * np.cos(inner), reach * np.sin(inner)], axis=1)
    return np.concatenate([back, front])


def _turned(outline: Outline, angle: float) -> Outline:
    cos, sin = np.cos(angle), np.sin(angle)
    return outline @ np.array([[cos, sin], [-sin, cos]])
