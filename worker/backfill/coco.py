"""Predictions in COCO's results format, with the pictures and categories that it refers to.

COCO counts in pixels of the picture. Where a picture can't be read here, its width and height are
given as 1 and its boxes in shares of them, which a scorer treats alike.
"""

from __future__ import annotations

from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import orjson

from worker.backfill.summary import found_items

if TYPE_CHECKING:
    from collections.abc import Iterator

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


class CocoFiles:
    """Both files, record by record; `image_id` counts frames from 1.

    `coco-images.json` tells item and frame of each.

    Args:
        results: gets the results.
        images: gets pictures and categories.
    """

    def __init__(self, results: IO[bytes], images: IO[bytes]) -> None:
        self._results = _JsonList(results, b"[\n")
        self._images = _JsonList(images, b'{"images": [\n')
        self._categories: dict[str, dict[str, Any]] = {}
        self._frames = 0

    def add(self, record: Record) -> None:
        """Adds the frames of an item and what was found in them."""
        if record["state"] != "succeeded":
            return
        width, height = _size(record)
        by_frame: dict[int, list[dict[str, Any]]] = {
            int(frame): [] for frame in record.get("frames", {})
        }
        for frame, item in found_items(record):
            by_frame[frame].append(item)
        for frame, found in sorted(by_frame.items()):
            self._frames += 1
            self._images.add({
                "id": self._frames,
                "item": record["item"],
                "frame": frame,
                "file_name": record.get("data_path") or record.get("data_uuid") or "",
                "width": width,
                "height": height,
            })
            for item in found:
                if "bounding_box" in item or "polygon" in item:
                    category = self._categories.setdefault(
                        item["feature_id"], {"id": len(self._categories) + 1, "name": item["name"]}
                    )
                    self._results.add(_result(item, self._frames, category["id"], width, height))

    def close(self) -> None:
        """Ends both files."""
        self._results.close(b"[\n", b"\n]\n")
        listed = [{**category, "feature_id": each} for each, category in self._categories.items()]
        self._images.close(
            b'{"images": [\n', b'\n],\n"categories": ' + orjson.dumps(listed) + b"}\n"
        )


@contextmanager
def coco_files(output: Output) -> Iterator[CocoFiles]:
    """Opens both files to be written while it is entered."""
    with output.write(RESULTS) as results, output.write(PICTURES) as images:
        files = CocoFiles(results, images)
        yield files
        files.close()


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
