"""Draws what was found onto the pictures of a backfill, as far as their files are here."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final

import fsspec
from PIL import Image, ImageDraw, ImageFont, ImageSequence

from worker.backfill.conclusion import succeeded_records
from worker.backfill.summary import found_items

if TYPE_CHECKING:
    from pathlib import Path

    from worker.backfill.output import Output
    from worker.backfill.parts import Record

_INK: Final = "#ffffff"
_GROUND: Final = "#16181d"
_COLOR: Final = "#2563c9"
_LETTERS: Final = 14
# A smaller picture is drawn larger, or its labels would hide it.
_SHORTEST_SIDE: Final = 320


def render_all(output: Output, folder: Path) -> tuple[int, int]:
    """Draws all items; returns how many pictures were drawn and how many items have no file."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = missed = 0
    for record in succeeded_records(output):
        if "data_path" not in record or "frames" not in record:
            missed += 1
            continue
        try:
            drawn += _render(record, folder)
        except (OSError, ValueError, ImportError):
            # The file is not here, and Pillow does not read all that the API does.
            missed += 1
    return drawn, missed


def _render(record: Record, folder: Path) -> int:
    path = PurePosixPath(record["data_path"])
    found: dict[int, list[dict[str, Any]]] = {}
    for number, item in found_items(record):
        found.setdefault(number, []).append(item)
    drawn = 0
    with fsspec.open(record["data_path"], "rb") as file, Image.open(file) as picture:
        for number, frame in enumerate(ImageSequence.Iterator(picture)):
            if str(number) not in record["frames"]:
                continue
            canvas = _grown(frame.convert("RGB"))
            _draw(canvas, found.get(number, []))
            name = f"{record['item']:07d}-{path.stem}-{number}.jpg"
            canvas.save(folder / name, quality=90)
            drawn += 1
    return drawn


def _grown(picture: Image.Image) -> Image.Image:
    scale = max(1, -(-_SHORTEST_SIDE // min(picture.size)))
    width, height = picture.size
    return picture.resize((width * scale, height * scale), Image.Resampling.LANCZOS)


def _draw(canvas: Image.Image, items: list[dict[str, Any]]) -> None:
    draw = ImageDraw.Draw(canvas, "RGBA")
    font = ImageFont.load_default(_LETTERS)
    width, height = canvas.size
    for number, item in enumerate(items):
        color = item.get("color") or _COLOR
        label = f"{item['name']} {item['confidence']:.2f}"
        where = (2.0, 2.0 + number * (_LETTERS + 4))
        if polygon := item.get("polygon"):
            points = [(point["x"] * width, point["y"] * height) for point in polygon]
            draw.polygon(points, fill=f"{color}50", outline=color, width=2)
            where = min(points, key=lambda point: point[1])
        elif box := item.get("bounding_box"):
            left, top = box["x"] * width, box["y"] * height
            right, bottom = left + box["w"] * width, top + box["h"] * height
            draw.rectangle((left, top, max(left, right), max(top, bottom)), outline=color, width=2)
            where = (left, max(0.0, top - _LETTERS - 4))
        draw.rectangle(draw.textbbox(where, label, font=font), fill=_GROUND)
        draw.text(where, label, fill=_INK, font=font)
