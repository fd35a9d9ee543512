"""Draws held-out items: what is true beside what was predicted, clips frame by frame.

Boxes are lines, outlines are tinted too; in clips a number tells the tracks apart and a trail
shows where each came from. The class of a frame stands below it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np
from PIL import Image, ImageSequence

from demo.canvas import Canvas, parse_color, text_width
from demo.frames import predicted_frames, true_frames
from worker.backfill.results.images import in_rgb, orientation, upright

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from demo.dataset import Feature, Item, Project
    from demo.frames import Frame, Shown
    from demo.scenario import Trained

_GROUND: Final = (22, 26, 33)
_INK: Final = (226, 230, 236)
_FAINT: Final = (142, 150, 163)
_RIGHT: Final = (86, 196, 122)
_WRONG: Final = (244, 108, 98)
_MARGIN: Final = 16
_GAP: Final = 12
_HEADING: Final = 26
_CAPTION: Final = 24
_LEGEND_ROW: Final = 24
_TEXT: Final = 14
_SMALL: Final = 12
_TINT: Final = 0.35
_PICTURE_SIDE: Final = 336
_CLIP_SIDE: Final = 232


@dataclass(frozen=True, slots=True)
class _Panel:
    """One frame on its place; `scale` takes 0 to 1 of the frame to pixels."""

    left: int
    top: int
    width: int
    height: int

    def place(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Maps points (…, 2), 0 to 1 of the frame, to the canvas."""
        return points * (self.width, self.height) + (self.left, self.top)


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where the panels are: truth beside prediction, or above it where there is a clip.

    Attributes:
        width: of one frame, in pixels.
        height: of one frame, in pixels.
    """

    width: int
    height: int
    frames: int

    @property
    def whole_width(self) -> int:
        columns = max(2, self.frames)
        return 2 * _MARGIN + columns * self.width + (columns - 1) * _GAP

    @property
    def legend_top(self) -> int:
        lines = 1 if self.frames == 1 else 2
        return _MARGIN + lines * (_HEADING + self.height + _CAPTION) + _GAP // 2

    def panel(self, row: int, frame: int) -> _Panel:
        """Returns the place of a frame; row 0 is the truth, row 1 the prediction."""
        column, line = (row, 0) if self.frames == 1 else (frame, row)
        left = _MARGIN + column * (self.width + _GAP)
        top = _MARGIN + line * (_HEADING + self.height + _CAPTION) + _HEADING
        return _Panel(left, top, self.width, self.height)


def _layout(item: Item, shape: tuple[int, ...]) -> _Layout:
    """Returns the layout for frames of this shape (h, w, 3)."""
    side = _PICTURE_SIDE if item.frames == 1 else _CLIP_SIDE
    height, width = (round(size * side / max(shape[:2])) for size in shape[:2])
    return _Layout(width, height, item.frames)


def read_frames(file: Path) -> list[NDArray[np.uint8]]:
    """Returns the frames of a picture, a clip or a folder of numbered pictures, RGB (h, w, 3)."""
    if file.is_dir():
        return [read_frames(each)[0] for each in sorted(file.iterdir())]
    with Image.open(file) as picture:
        turn = orientation(picture)
        return [
            np.asarray(upright(in_rgb(frame), turn)) for frame in ImageSequence.Iterator(picture)
        ]


def draw_item(item: Item, project: Project, models: Sequence[Trained], file: Path) -> None:
    """Writes one picture: the item's truth beside what the models found."""
    frames = read_frames(item.file)
    rows = {
        "truth": true_frames(item, project),
        "predicted": predicted_frames(item, project, models),
    }
    layout = _layout(item, frames[0].shape)
    legend = _legend_rows(_seen_features(*rows.values()), layout.whole_width)
    height = layout.legend_top + len(legend) * _LEGEND_ROW + _MARGIN
    canvas = Canvas(layout.whole_width, height, _GROUND)
    for row, (name, shown_frames) in enumerate(rows.items()):
        for number, picture in enumerate(frames):
            panel = layout.panel(row, number)
            heading = name if item.frames == 1 else f"{name}, frame {number}"
            canvas.text(panel.left, panel.top - _HEADING + 4, heading, _INK, _TEXT)
            _draw_frame(canvas, panel, picture)
            _draw_things(canvas, panel, shown_frames[: number + 1], tracked=item.frames > 1)
            _draw_option(canvas, panel, shown_frames[number], rows["truth"][number])
    _draw_legend(canvas, legend, layout.legend_top)
    canvas.save(file)


def _draw_frame(canvas: Canvas, panel: _Panel, picture: NDArray[np.uint8]) -> None:
    size = (panel.width, panel.height)
    grown = cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC)
    canvas.paste(np.asarray(grown, np.uint8), panel.left, panel.top)


def _draw_things(
    canvas: Canvas, panel: _Panel, shown_frames: Sequence[Frame], *, tracked: bool
) -> None:
    """Draws the things of the last frame; those before it tell where they came from."""
    now = shown_frames[-1].things
    for thing in now:
        points, color = panel.place(thing.outline), parse_color(thing.feature.color)
        if thing.feature.type == "polygon":
            canvas.fill(points, color, _TINT)
        canvas.outline(points, color)
    for thing in now:
        color = parse_color(thing.feature.color)
        way = [each.centre for frame in shown_frames for each in frame.things if _same(each, thing)]
        if tracked and len(way) > 1:
            canvas.trail(panel.place(np.array(way)), color)
        parts = [thing.feature.name, *([f"#{thing.track}"] if tracked else [])]
        if thing.confidence is not None:
            parts.append(f"{thing.confidence:.2f}")
        left, top = panel.place(thing.outline).min(axis=0).round().astype(int).tolist()
        canvas.tag(left, max(top, panel.top + 16), " ".join(parts), color, _SMALL)


def _same(one: Shown, other: Shown) -> bool:
    return one.track == other.track and one.feature.type == other.feature.type


def _draw_option(canvas: Canvas, panel: _Panel, frame: Frame, truth: Frame) -> None:
    """Writes the class of the frame below it, in green or red where it was predicted."""
    name = "no class" if frame.option is None else frame.option.name
    color = _FAINT
    if frame is not truth:
        color = _RIGHT if frame.option == truth.option else _WRONG
        if frame.option_confidence is not None:
            name += f" {frame.option_confidence:.2f}"
    canvas.text(panel.left, panel.top + panel.height + 4, name, color, _TEXT)


def _seen_features(*rows: Sequence[Frame]) -> list[Feature]:
    """Returns the features of all things, each once, in the order of their names."""
    found = {
        thing.feature.feature_hash: thing.feature
        for shown_frames in rows
        for frame in shown_frames
        for thing in frame.things
    }
    return sorted(found.values(), key=lambda feature: feature.name)


def _legend_rows(features: Sequence[Feature], width: int) -> list[list[tuple[int, Feature]]]:
    """Returns rows of features, each with its left edge in pixels."""
    rows: list[list[tuple[int, Feature]]] = [[]]
    left = _MARGIN
    for feature in features:
        needed = 22 + text_width(feature.name, _TEXT)
        if left + needed > width - _MARGIN and rows[-1]:
            rows.append([])
            left = _MARGIN
        rows[-1].append((left, feature))
        left += needed + 18
    return rows


def _draw_legend(canvas: Canvas, rows: Sequence[Sequence[tuple[int, Feature]]], top: int) -> None:
    for number, row in enumerate(rows):
        for left, feature in row:
            y = top + number * _LEGEND_ROW + 4
            # A dark colour on the dark ground needs an edge.
            canvas.box(left, y, 14, 14, _FAINT)
            canvas.box(left + 1, y + 1, 12, 12, parse_color(feature.color))
            canvas.text(left + 22, y - 1, feature.name, _INK, _TEXT)
