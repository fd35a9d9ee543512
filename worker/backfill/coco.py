"""Predictions in COCO's results format, with the pictures and categories that it refers to.

COCO counts in pixels of the picture. Where a picture can't be read here, its width and height are
given as 1 and its boxes in shares of them, which a scorer treats alike.
"""

from __future__ import annotations

from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import orjson

from worker.backfill.summary import found_items

if TYPE_CHECKING:
    from collections.abc import Iterable

    from worker.backfill.output import Output
    from worker.backfill.parts import Record

RESULTS = "coco-results.json"
PICTURES = "coco-images.json"


class _JsonList:
    """A JSON array, an element on a line, never whole in memory."""

    def __init__(self, file: IO[bytes], opening: bytes) -> None:
        self._file = file
        self._between = opening

    def add(self, value: Any) -> None:
        self._file.write(self._between + orjson.dumps(value))
        self._between = b",\n"

    def close(self, opening: bytes, closing: bytes) -> None:
        self._file.write((opening if self._between == opening else b"") + closing)


def write_coco(output: Output, records: Iterable[Record]) -> bool:
    """Writes both files; returns False, and writes nothing of use, where nothing has a place.

    `image_id` counts frames from 1; `coco-images.json` tells item and frame of each.
    """
    categories: dict[str, dict[str, Any]] = {}
    image_id = 0
    with ExitStack() as files:
        results = _JsonList(files.enter_context(output.write(RESULTS)), b"[\n")
        images = _JsonList(files.enter_context(output.write(PICTURES)), b'{"images": [\n')
        for record in records:
            width, height = _size(record) if record["state"] == "succeeded" else (1, 1)
            by_frame: dict[int, list[dict[str, Any]]] = {
                int(frame): [] for frame in record.get("frames", {})
            }
            for frame, item in found_items(record):
                by_frame[frame].append(item)
            for frame, found in sorted(by_frame.items()):
                image_id += 1
                images.add({
                    "id": image_id,
                    "item": record["item"],
                    "frame": frame,
                    "file_name": record.get("data_path") or record.get("data_uuid") or "",
                    "width": width,
                    "height": height,
                })
                for item in found:
                    if "bounding_box" in item or "polygon" in item:
                        category = categories.setdefault(
                            item["feature_id"], {"id": len(categories) + 1, "name": item["name"]}
                        )
                        results.add(_result(item, image_id, category["id"], width, height))
        results.close(b"[\n", b"\n]\n")
        listed = [{**category, "feature_id": each} for each, category in categories.items()]
        images.close(b'{"images": [\n', b'\n],\n"categories": ' + orjson.dumps(listed) + b"}\n")
    return bool(categories)


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


def _size(record: Record) -> tuple[int, int]:
    """Returns width and height of a picture in pixels, or 1 and 1."""
    path = record.get("data_path")
    if path is None or not Path(path).is_file():
        return 1, 1
    try:
        opened = import_module("PIL.Image").open(path)
    except (ModuleNotFoundError, OSError):
        return 1, 1
    with opened as picture:
        width, height = picture.size
    return int(width), int(height)
