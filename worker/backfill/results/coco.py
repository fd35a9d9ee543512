"""Predictions in COCO's results format, with the pictures and categories that it refers to.

COCO counts in pixels of the picture, upright as browsers show it. Where a picture can't be read
here, its width and height are given as 1 and its boxes in shares of them, which a scorer treats
alike.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from typing import IO, TYPE_CHECKING, Any

import orjson

from worker.backfill.results.summary import Skipped, found_items, has_numbers
from worker.files.file_access import local_path
from worker.paths import is_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from worker.backfill.results.output import Output
    from worker.backfill.results.parts import Record

RESULTS = "coco-results.json"
PICTURES = "coco-images.json"


@dataclass(frozen=True, slots=True)
class CocoRows:
    """What an item adds to `coco-images.json` and to `coco-results.json`."""

    images: list[dict[str, Any]]
    results: list[dict[str, Any]]


@dataclass(slots=True)
class Coco:
    """Numbers pictures and categories; `image_id` counts frames from 1.

    Attributes:
        categories: by feature id, in the order in which they were found first.
        unmeasured: items whose picture is here but can't be read.
        malformed: predictions that were left out, as they have no number where one must be.
    """

    categories: dict[str, dict[str, Any]] = field(default_factory=dict)
    unmeasured: Skipped = field(default_factory=Skipped)
    malformed: Skipped = field(default_factory=Skipped)
    _frames: int = 0

    def rows(self, record: Record) -> CocoRows:
        """Returns the frames of an item and what was found in them."""
        rows = CocoRows([], [])
        if record["state"] != "succeeded":
            return rows
        width, height = self._size(record)
        by_frame: dict[int, list[dict[str, Any]]] = {
            int(frame): [] for frame in record.get("frames", {})
        }
        for frame, item in found_items(record):
            if has_numbers(item):
                by_frame[frame].append(item)
            else:
                self.malformed.count(record, "a number is missing")
        for frame, found in sorted(by_frame.items()):
            self._frames += 1
            rows.images.append({
                "id": self._frames,
                "item": record["item"],
                "frame": frame,
                "file_name": record.get("data_path") or record.get("data_uuid") or "",
                "width": width,
                "height": height,
            })
            rows.results.extend(
                _result(item, self._frames, self._category_id(item), width, height)
                for item in found
                if item.get("bounding_box") or item.get("polygon")
            )
        return rows

    def _category_id(self, item: dict[str, Any]) -> int:
        known = self.categories.setdefault(
            item["feature_id"], {"id": len(self.categories) + 1, "name": item["name"]}
        )
        return int(known["id"])

    def _size(self, record: Record) -> tuple[int, int]:
        """Returns width and height of a picture in pixels, or 1 and 1."""
        path = _picture_of(record)
        if path is None:
            return 1, 1
        try:
            width, height = _measured(path)
            if width > 0 and height > 0:
                return width, height
            self.unmeasured.count(record, "it has no pixels")
        except ModuleNotFoundError as exc:
            reason = f"needs the package {exc.name}: install trainmaster[report]"
            self.unmeasured.count(record, reason)
        except Exception as exc:  # noqa: BLE001 - Pillow says in many ways what it can't read
            self.unmeasured.count(record, exc)
        return 1, 1


class JsonList:
    """A JSON array, an element on a line, never whole in memory."""

    def __init__(self, file: IO[bytes], opening: bytes = b"") -> None:
        self._file = file
        self._between = opening + b"[\n"

    def add(self, value: Any) -> None:
        """Writes an element."""
        self._file.write(self._between + orjson.dumps(value))
        self._between = b",\n"

    def close(self, closing: bytes) -> None:
        """Ends the array; of an empty one the beginning is still to be written."""
        opening = b"" if self._between == b",\n" else self._between
        self._file.write(opening + b"\n]" + closing)


@contextmanager
def results_file(output: Output) -> Iterator[JsonList]:
    """Opens `coco-results.json` to be written while it is entered."""
    with output.write(RESULTS) as file:
        listed = JsonList(file)
        yield listed
        listed.close(b"\n")


@contextmanager
def images_file(output: Output, coco: Coco) -> Iterator[JsonList]:
    """Opens `coco-images.json` to be written while it is entered; categories come last."""
    with output.write(PICTURES) as file:
        listed = JsonList(file, b'{"images": ')
        yield listed
        categories = [{**each, "feature_id": key} for key, each in coco.categories.items()]
        listed.close(b',\n"categories": ' + orjson.dumps(categories) + b"}\n")


def _result(
    item: dict[str, Any], image_id: int, category_id: int, width: int, height: int
) -> dict[str, Any]:
    told: dict[str, Any] = {
        "image_id": image_id,
        "category_id": category_id,
        "score": item["confidence"],
    }
    polygon = item.get("polygon")
    if polygon:
        points = [(point["x"] * width, point["y"] * height) for point in polygon]
        left, top = (min(values) for values in zip(*points, strict=True))
        right, bottom = (max(values) for values in zip(*points, strict=True))
        flat = [round(value, 4) for point in points for value in point]
        box = [left, top, right - left, bottom - top]
        told["segmentation"] = [flat]
    else:
        of = item["bounding_box"]
        box = [of["x"] * width, of["y"] * height, of["w"] * width, of["h"] * height]
    told["bbox"] = [round(value, 4) for value in box]
    return told


def _picture_of(record: Record) -> Path | None:
    """Returns where the picture of an item lies on a disk of this machine; None if it doesn't."""
    place = str(record.get("data_path") or "")
    path = local_path(place) if place else None
    return path if path is not None and is_file(str(path)) else None


def _measured(path: Path) -> tuple[int, int]:
    """Returns width and height as the picture is shown, from its head alone."""
    images = import_module("worker.backfill.results.images")
    with images.open_picture(path) as picture:
        width, height = images.upright_size(picture.size, images.orientation(picture))
    return int(width), int(height)
