"""Reads COCO JSON: which pictures there are, and what each shows.

Of a segmentation in several parts the largest is taken, as a polygon here is one outline; crowds
(`iscrowd`) are no single things and are left out. What reaches outside its picture is cut there.

Source: https://cocodataset.org/#format-data
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import cv2
import numpy as np
from pydantic import BaseModel, BeforeValidator, Field, FiniteFloat, NonNegativeInt, ValidationError

from sandbox.learning.errors import ImportFolderError, UnreadableMediaError
from sandbox.learning.frames import measure
from sandbox.learning.ground_truth import BoundingBox, Point
from sandbox.learning.run_lengths import read_mask

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from sandbox.learning.frames import Extent

Id: TypeAlias = "int | str"
Outline: TypeAlias = "NDArray[np.float64]"

_LEAST_CORNERS = 3


@dataclass(frozen=True, slots=True)
class CocoThing:
    """One thing in a picture; `polygon` is None where only its box is known."""

    category: str
    box: BoundingBox
    polygon: list[Point] | None


@dataclass(frozen=True, slots=True)
class CocoPicture:
    """A picture and what it shows, as one JSON file has it."""

    file: Path
    extent: Extent
    things: tuple[CocoThing, ...]


class _Image(BaseModel):
    id: Id
    file_name: str = Field(min_length=1)
    width: int | None = None
    height: int | None = None


class _Rle(BaseModel):
    """A mask by its runs, column by column; `counts` compressed or as they are."""

    size: tuple[int, int]
    """Height, width."""
    counts: list[NonNegativeInt] | str


Polygon = Annotated[list[FiniteFloat], Field(min_length=2 * _LEAST_CORNERS)]


def _none_if_empty(value: object) -> object:
    """Many tools write an empty list where there is nothing."""
    return None if value == [] else value


class _Annotation(BaseModel):
    image_id: Id
    category_id: Id
    bbox: Annotated[
        tuple[FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat] | None,
        BeforeValidator(_none_if_empty),
    ] = None
    segmentation: Annotated[list[Polygon] | _Rle | None, BeforeValidator(_none_if_empty)] = None
    iscrowd: int = 0


class _Category(BaseModel):
    id: Id
    name: str = Field(min_length=1)


class _Coco(BaseModel):
    images: list[_Image] = Field(min_length=1)
    annotations: list[_Annotation]
    categories: list[_Category] = Field(min_length=1)


def read_coco(root: Path, json_file: Path) -> list[CocoPicture]:
    """Returns the pictures of a JSON file below `root`, in their order there.

    Pictures are looked for beside the JSON file, in `root`, in `root/images` and in the folder
    below `root` that the JSON file is named after (`instances_val.json`: `val`).

    Raises:
        ImportFolderError: names the file and the field that can't be used.
    """
    return _Reader(root, json_file).pictures()


class _Reader:
    """One JSON file on its way to pictures."""

    def __init__(self, root: Path, json_file: Path) -> None:
        self._root = root
        self._name = json_file.relative_to(root)
        named_after = json_file.stem.rpartition("_")[2]
        self._folders = (json_file.parent, root, root / "images", root / named_after)
        self._coco = self._parsed(json_file)
        self._categories = {each.id: each.name for each in self._coco.categories}

    def pictures(self) -> list[CocoPicture]:
        places = {image.id: place for place, image in enumerate(self._coco.images)}
        if len(places) < len(self._coco.images):
            raise self._error("images", "two of them have one id")
        files = [self._file(place) for place in range(len(places))]
        extents = [self._extent(place, file) for place, file in enumerate(files)]
        things: list[list[CocoThing]] = [[] for _ in files]
        for number, annotation in enumerate(self._coco.annotations):
            field = f"annotations[{number}]"
            if annotation.image_id not in places:
                raise self._error(f"{field}.image_id", f"no image {annotation.image_id}")
            if annotation.category_id not in self._categories:
                raise self._error(f"{field}.category_id", f"no category {annotation.category_id}")
            if not annotation.iscrowd:
                place = places[annotation.image_id]
                things[place].append(self._thing(field, annotation, extents[place]))
        return [
            CocoPicture(file, extent, tuple(shown))
            for file, extent, shown in zip(files, extents, things, strict=True)
        ]

    def _parsed(self, json_file: Path) -> _Coco:
        try:
            return _Coco.model_validate_json(json_file.read_bytes())
        except OSError as exc:
            raise ImportFolderError(f"{self._name}: {exc.strerror}") from exc
        except ValidationError as exc:
            first = exc.errors(include_url=False, include_context=False)[0]
            raise self._error(_field(first["loc"]), first["msg"]) from exc

    def _file(self, place: int) -> Path:
        field, name = f"images[{place}].file_name", self._coco.images[place].file_name
        for folder in self._folders:
            # By name only: what a link inside the folder points to is the user's choice.
            file = Path(os.path.normpath(folder / name))
            if not file.is_relative_to(self._root):
                raise self._error(field, f"{name} lies outside the folder")
            if file.is_file():
                return file
        looked_in = ", ".join(dict.fromkeys(str(folder) for folder in self._folders))
        raise self._error(field, f"there is no {name} in {looked_in}")

    def _extent(self, place: int, file: Path) -> Extent:
        image = self._coco.images[place]
        try:
            extent = measure(file)
        except UnreadableMediaError as exc:
            raise self._error(f"images[{place}].file_name", str(exc)) from exc
        if extent.frames > 1:
            message = f"{image.file_name} has {extent.frames} frames, COCO labels pictures of one"
            raise self._error(f"images[{place}].file_name", message)
        for side in ("width", "height"):
            told, real = getattr(image, side), getattr(extent, side)
            if told is not None and told != real:
                message = f"{told}, but {image.file_name} has {real}, upright as browsers show it"
                raise self._error(f"images[{place}].{side}", message)
        return extent

    def _thing(self, field: str, annotation: _Annotation, extent: Extent) -> CocoThing:
        size = np.array([extent.width, extent.height], float)
        outline = None
        if annotation.segmentation is not None:
            outline = self._outline(f"{field}.segmentation", annotation.segmentation, extent)
        if annotation.bbox is not None:
            x, y, width, height = annotation.bbox
            corners, box_field = np.array([[x, y], [x + width, y + height]]), f"{field}.bbox"
        elif outline is not None:
            corners, box_field = outline, f"{field}.segmentation"
        else:
            raise self._error(field, "neither bbox nor segmentation")
        corners = np.clip(corners / size, 0, 1)
        (left, top), (right, bottom) = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
        if right <= left or bottom <= top:
            raise self._error(box_field, "no area inside the picture")
        polygon = None
        if outline is not None:
            inside = np.clip(outline / size, 0, 1).round(6)
            polygon = [Point(x=x, y=y) for x, y in inside.tolist()]
        box = BoundingBox(x=left, y=top, w=right - left, h=bottom - top)
        return CocoThing(self._categories[annotation.category_id], box, polygon)

    def _outline(self, field: str, parts: list[Polygon] | _Rle, extent: Extent) -> Outline:
        """Returns the largest part, (corners, 2) in pixels."""
        if isinstance(parts, _Rle):
            outlines = list(self._contours(field, parts, extent))
        else:
            for number, part in enumerate(parts):
                if len(part) % 2:
                    raise self._error(f"{field}[{number}]", "an odd number of coordinates")
            outlines = [np.array(part).reshape(-1, 2) for part in parts]
        largest = max(outlines, key=_area, default=None)
        if largest is None or not _area(largest):
            raise self._error(field, "no area")
        return largest

    def _contours(self, field: str, rle: _Rle, extent: Extent) -> Iterator[Outline]:
        height, width = rle.size
        if (width, height) != (extent.width, extent.height):
            message = f"{width} x {height}, but the picture has {extent.width} x {extent.height}"
            raise self._error(f"{field}.size", message)
        try:
            mask = read_mask(rle.counts, height, width)
        except ValueError as exc:
            raise self._error(f"{field}.counts", f"not run lengths: {exc}") from exc
        # Twice as large, so that the outline runs along the pixels' edges, not their centres.
        doubled = np.pad(np.kron(mask, np.ones((2, 2), np.uint8)), 1)
        found, _ = cv2.findContours(doubled, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        for contour in found:
            yield (contour[:, 0].astype(float) - 0.5) / 2

    def _error(self, field: str, message: str) -> ImportFolderError:
        return ImportFolderError(f"{self._name}: {field}: {message}")


def _area(outline: Outline) -> float:
    return float(cv2.contourArea(outline.astype(np.float32)[:, None]))


def _field(place: tuple[int | str, ...]) -> str:
    """Returns a place as `annotations[3].bbox`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
    return text.removeprefix(".") or "the file"
