"""Makes labelled pictures and clips of simple shapes, the same ones for the same seed.

Two projects show the same world under different names, so that one model can learn from both
through a features mapping. In every frame some things are labelled with boxes, others with
outlines, and the ground's pattern is the frame's class, so every item serves all three tasks.
"""

from __future__ import annotations

import string
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from uuid import UUID

import cv2
import numpy as np
from PIL import Image

from sandbox.learning import drawing
from sandbox.learning.drawing import Ground, Outline, Pattern, Shape
from sandbox.learning.ground_truth import (
    BoundingBox,
    Feature,
    FrameTruth,
    Item,
    ItemTruth,
    ObjectTruth,
    Point,
    Project,
)
from schemas.enums import FeatureType, ItemType

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

_BOXED = (Shape.CIRCLE, Shape.SQUARE, Shape.TRIANGLE)
_OUTLINED = (Shape.STAR, Shape.MOON, Shape.CROSS)
_COLORS = ("#d33115", "#16406c", "#fbae1a", "#8b5cf6", "#0f9d8a", "#e2498a")
_OPTION_COLORS = ("#7b8794", "#52606d", "#9aa5b1")

# Two things may come so near that one hides a little of the other, never more.
_NEAREST = 0.85
_PLACING_TRIES = 60

_SIZES = ((96, 96), (96, 80), (80, 96), (72, 72))
_CLIP_FRAME_MILLISECONDS = 200


@dataclass(frozen=True, slots=True)
class _World:
    """How one project names what all projects show."""

    title: str
    folder: str
    names: Mapping[Shape | Pattern, str]


_WORLDS = (
    _World(
        "Shapes",
        "shapes",
        {**{shape: shape.value for shape in Shape}, **{each: each.value for each in Pattern}},
    ),
    _World(
        "Pieces",
        "pieces",
        {
            Shape.CIRCLE: "disc",
            Shape.SQUARE: "box",
            Shape.TRIANGLE: "wedge",
            Shape.STAR: "spark",
            Shape.MOON: "crescent",
            Shape.CROSS: "plus",
            Pattern.PLAIN: "blank",
            Pattern.STRIPES: "lined",
            Pattern.DOTS: "spotted",
        },
    ),
)


@dataclass(frozen=True, slots=True)
class _Batch:
    """So many items of one type, each of so many frames."""

    split: Literal["train", "heldout"]
    item_type: ItemType
    items: int
    frames: int


_BATCHES = (
    _Batch("train", ItemType.IMAGE, 120, 1),
    _Batch("train", ItemType.IMAGE_GROUP, 10, 4),
    _Batch("train", ItemType.VIDEO, 10, 4),
    _Batch("heldout", ItemType.IMAGE, 16, 1),
    _Batch("heldout", ItemType.IMAGE_GROUP, 4, 4),
    _Batch("heldout", ItemType.VIDEO, 4, 6),
)


@dataclass(frozen=True, slots=True)
class _Thing:
    """One shape and where it is in every frame of an item."""

    shape: Shape
    color: NDArray[np.float64]
    radius: float
    centres: Outline
    angles: NDArray[np.float64]

    def outline(self, frame: int) -> Outline:
        return drawing.placed(
            drawing.unit_outline(self.shape),
            centre=self.centres[frame],
            radius=self.radius,
            angle=float(self.angles[frame]),
        )


def generate(root: Path, seed: int) -> list[Project]:
    """Writes the files of two projects below `root` and returns both; takes about a second."""
    return [
        _project(world, root / world.folder, np.random.default_rng([seed, number]))
        for number, world in enumerate(_WORLDS)
    ]


def _project(world: _World, folder: Path, rng: np.random.Generator) -> Project:
    hashes: dict[Shape | Pattern, str] = {each: _feature_hash(rng) for each in world.names}
    items: list[Item] = []
    for batch in _BATCHES:
        target = folder / batch.split
        target.mkdir(parents=True, exist_ok=True)
        items += [_item(batch, number, target, hashes, rng) for number in range(batch.items)]
    return Project(
        project_uuid=_uuid(rng),
        title=world.title,
        dataset_uuid=_uuid(rng),
        dataset_title=f"{world.title} data",
        ontology=_ontology(world, hashes),
        items=tuple(items),
    )


def _ontology(world: _World, hashes: Mapping[Shape | Pattern, str]) -> tuple[Feature, ...]:
    boxed = zip(_BOXED, _COLORS[:3], strict=True)
    outlined = zip(_OUTLINED, _COLORS[3:], strict=True)
    options = zip(Pattern, _OPTION_COLORS, strict=True)
    features: list[Feature] = []
    for kinds, feature_type in (
        (boxed, FeatureType.BOUNDING_BOX),
        (outlined, FeatureType.POLYGON),
        (options, FeatureType.CLASSIFICATION_OPTION),
    ):
        features += [
            Feature(hashes[kind], world.names[kind], feature_type, color) for kind, color in kinds
        ]
    return tuple(features)


def _item(
    batch: _Batch,
    number: int,
    folder: Path,
    hashes: Mapping[Shape | Pattern, str],
    rng: np.random.Generator,
) -> Item:
    width, height = _SIZES[rng.integers(len(_SIZES))]
    ground = _ground(rng, list(Pattern)[number % len(Pattern)])
    things = _things(rng, ground, width, height, batch.frames)
    pictures = [
        _picture(ground, things, frame, width, height, rng) for frame in range(batch.frames)
    ]
    stem = f"{batch.item_type}-{number:03d}"
    return Item(
        data_uuid=_uuid(rng),
        label_uuid=_uuid(rng),
        title=stem,
        file=_write(pictures, folder, stem, batch.item_type).absolute(),
        item_type=batch.item_type,
        frames=batch.frames,
        width=width,
        height=height,
        split=batch.split,
        truth=_truth(ground, things, hashes, width, height),
    )


def _ground(rng: np.random.Generator, pattern: Pattern) -> Ground:
    color = rng.uniform(40, 215, 3)
    step = rng.uniform(28, 45) * (1 if color.mean() < 128 else -1)
    return Ground(
        pattern=pattern,
        color=color,
        accent=np.clip(color + step + rng.uniform(-12, 12, 3), 0, 255),
        period=float(rng.uniform(7, 12)),
        angle=float(rng.uniform(0, np.pi)),
    )


def _things(
    rng: np.random.Generator, ground: Ground, width: int, height: int, frames: int
) -> list[_Thing]:
    """Returns one or two things of each kind of label, apart from each other in all frames."""
    things: list[_Thing] = []
    for shapes in (_BOXED, _OUTLINED):
        wanted = len(things) + int(rng.integers(1, 3))
        for _ in range(_PLACING_TRIES):
            if len(things) == wanted:
                break
            shape = shapes[rng.integers(len(shapes))]
            thing = _moving(rng, shape, _contrasting(rng, ground.color), (width, height), frames)
            if all(_apart(thing, other) for other in things):
                things.append(thing)
    return things


def _moving(
    rng: np.random.Generator,
    shape: Shape,
    color: NDArray[np.float64],
    size: tuple[int, int],
    frames: int,
) -> _Thing:
    """A thing that starts anywhere, goes straight on and bounces off the edges."""
    radius = float(rng.uniform(0.13, 0.21) * min(size))
    low, high = np.full(2, radius), np.array(size) - radius
    start, step = rng.uniform(low, high), rng.uniform(-7, 7, 2)
    ahead = start - low + step * np.arange(frames)[:, None]
    span = high - low
    centres = low + span - np.abs(span - ahead % (2 * span))
    first, turn = rng.uniform(0, 2 * np.pi), rng.uniform(-0.25, 0.25)
    angles = first + turn * np.arange(frames, dtype=np.float64)
    return _Thing(shape, color, radius, centres, angles)


def _contrasting(rng: np.random.Generator, ground: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns a colour that stands out from the ground and from its pattern."""
    while True:
        color: NDArray[np.float64] = rng.uniform(20, 235, 3)
        if np.abs(color - ground).max() > 80:
            return color


def _apart(one: _Thing, other: _Thing) -> bool:
    gaps = np.hypot(*(one.centres - other.centres).T)
    return bool(gaps.min() >= _NEAREST * (one.radius + other.radius))


def _picture(
    ground: Ground,
    things: Sequence[_Thing],
    frame: int,
    width: int,
    height: int,
    rng: np.random.Generator,
) -> NDArray[np.uint8]:
    canvas = drawing.draw_ground(ground, width, height)
    for thing in things:
        canvas = drawing.paint(canvas, thing.outline(frame), thing.color)
    return drawing.finish(canvas, rng)


def _write(
    pictures: Sequence[NDArray[np.uint8]], folder: Path, stem: str, item_type: ItemType
) -> Path:
    if item_type is ItemType.IMAGE_GROUP:
        group = folder / stem
        group.mkdir(exist_ok=True)
        for number, picture in enumerate(pictures):
            _write_png(group / f"{number:03d}.png", picture)
        return group
    if item_type is ItemType.VIDEO:
        first, *others = [Image.fromarray(picture).quantize(128) for picture in pictures]
        clip = folder / f"{stem}.gif"
        first.save(
            clip,
            save_all=True,
            append_images=others,
            duration=_CLIP_FRAME_MILLISECONDS,
            loop=0,
            optimize=False,
        )
        return clip
    file = folder / f"{stem}.png"
    _write_png(file, pictures[0])
    return file


def _write_png(file: Path, picture: NDArray[np.uint8]) -> None:
    _, data = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    file.write_bytes(data.tobytes())


def _truth(
    ground: Ground,
    things: Sequence[_Thing],
    hashes: Mapping[Shape | Pattern, str],
    width: int,
    height: int,
) -> ItemTruth:
    frames: list[FrameTruth] = []
    for frame in range(len(things[0].centres)):
        objects: list[ObjectTruth] = []
        for track, thing in enumerate(things):
            outline = thing.outline(frame) / (width, height)
            objects.append(_object_truth(thing.shape, hashes[thing.shape], track, outline))
        frames.append({"objects": objects, "classification": hashes[ground.pattern]})
    return {"frames": frames}


def _object_truth(shape: Shape, feature_hash: str, track: int, outline: Outline) -> ObjectTruth:
    thing: ObjectTruth = {"featureHash": feature_hash, "track": track}
    if shape in _BOXED:
        (x, y), (right, bottom) = outline.min(axis=0).tolist(), outline.max(axis=0).tolist()
        thing["boundingBox"] = BoundingBox(x=x, y=y, w=right - x, h=bottom - y)
    else:
        thing["polygon"] = [Point(x=x, y=y) for x, y in outline.round(6).tolist()]
    return thing


def _uuid(rng: np.random.Generator) -> str:
    return str(UUID(bytes=rng.bytes(16), version=4))


def _feature_hash(rng: np.random.Generator) -> str:
    """Returns 8 letters and digits, as the API's feature hashes look."""
    return "".join(rng.choice(list(string.ascii_letters + string.digits), 8))
