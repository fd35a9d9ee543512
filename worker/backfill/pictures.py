"""Draws what was found onto the pictures of a backfill, as far as their files can be read here."""

from __future__ import annotations

import io
from html import escape
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from urllib.parse import quote

from PIL import Image, ImageColor, ImageDraw, ImageFont, ImageSequence

from worker.api.remote_files import MAX_IMAGE_BYTES, read_remote
from worker.backfill.conclusion import succeeded_records
from worker.backfill.summary import found_items

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from worker.backfill.output import Output
    from worker.backfill.parts import Record

    Rgb: TypeAlias = tuple[int, int, int]
    Box: TypeAlias = tuple[float, float, float, float]

_DARK: Final = (22, 24, 29)
_LIGHT: Final = (255, 255, 255)
_COLOR: Final = "#2563c9"
_LETTERS: Final = 14
_PADDING: Final = 3
_LINE: Final = 3
# A smaller picture is drawn larger, or its labels would hide it.
_SHORTEST_SIDE: Final = 480
# What the model is unsure of is drawn fainter, but never so faint that it is overlooked.
_FAINTEST: Final = 0.35
_FAINTEST_LABEL: Final = 0.6
_TINT: Final = 0.3
# More would be too much for a browser; the files are all there.
_MOST_SHOWN: Final = 2_000

_GALLERY: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<style>
body {{ font: 14px/1.4 system-ui, sans-serif; margin: 24px; }}
main {{ display: grid; gap: 14px; grid-template-columns: repeat(auto-fill, minmax(240px, 1fr)); }}
figure {{ margin: 0; }}
img {{ width: 100%; aspect-ratio: 1; object-fit: contain; background: #8881; border-radius: 8px; }}
figcaption {{ overflow-wrap: anywhere; opacity: .75; }}
</style></head><body><h1>{title}</h1><main>
{pictures}
</main></body></html>
"""


def render_all(output: Output, folder: Path) -> tuple[int, int]:
    """Draws all items, and a page that shows them.

    Returns:
        How many pictures were drawn, and how many items have no file that can be read here.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drawn: list[str] = []
    count = missed = 0
    for record in succeeded_records(output):
        if "data_path" not in record or "frames" not in record:
            missed += 1
            continue
        try:
            for name in _render(record, folder):
                count += 1
                if len(drawn) < _MOST_SHOWN:
                    drawn.append(name)
        except (OSError, ValueError, ImportError):
            # The file is not here, or Pillow does not read all that the API does.
            missed += 1
    _write_gallery(folder, sorted(drawn), count)
    return count, missed


def _write_gallery(folder: Path, names: list[str], count: int) -> None:
    shown = f"{len(names):,} of {count:,} pictures" if len(names) < count else f"{count:,} pictures"
    pictures = "\n".join(
        f'<figure><a href="{quote(name)}"><img loading="lazy" src="{quote(name)}" alt=""></a>'
        f"<figcaption>{escape(name)}</figcaption></figure>"
        for name in names
    )
    page = _GALLERY.format(title=shown, pictures=pictures)
    (folder / "index.html").write_text(page, "utf-8")


def _render(record: Record, folder: Path) -> Iterator[str]:
    """Draws the frames of an item; yields the names of the pictures."""
    path = PurePosixPath(record["data_path"])
    found: dict[int, list[dict[str, Any]]] = {}
    for number, item in found_items(record):
        found.setdefault(number, []).append(item)
    # Whole, for Pillow goes to and fro in a file, which what a web server sends does not allow.
    content = io.BytesIO(read_remote(record["data_path"], MAX_IMAGE_BYTES))
    with Image.open(content) as picture:
        for number, frame in enumerate(ImageSequence.Iterator(picture)):
            if str(number) not in record["frames"]:
                continue
            canvas = _grown(frame.convert("RGB"))
            name = f"{record['item']:07d}-{path.stem}-{number}.jpg"
            _drawn(canvas, found.get(number, [])).save(folder / name, quality=90)
            yield name


def _grown(picture: Image.Image) -> Image.Image:
    scale = max(1, -(-_SHORTEST_SIDE // min(picture.size)))
    width, height = picture.size
    return picture.resize((width * scale, height * scale), Image.Resampling.BICUBIC)


def _drawn(picture: Image.Image, items: list[dict[str, Any]]) -> Image.Image:
    """Returns a picture with what was found on it, the surest on top of the others."""
    layer = Image.new("RGBA", picture.size)
    draw = ImageDraw.Draw(layer)
    surest_first = sorted(items, key=lambda item: -float(item["confidence"]))
    for item in reversed(surest_first):
        _draw_shape(layer, item)
    taken: list[Box] = []
    for item in surest_first:
        _draw_label(draw, item, _anchor(item, picture.size), picture.size, taken)
    return Image.alpha_composite(picture.convert("RGBA"), layer).convert("RGB")


def _draw_shape(layer: Image.Image, item: dict[str, Any]) -> None:
    """Draws a box or an outline; it is laid over what was drawn before."""
    color = _color(item)
    width, height = layer.size
    shape = Image.new("RGBA", layer.size)
    draw = ImageDraw.Draw(shape)
    alpha = round(255 * _strength(item))
    if polygon := item.get("polygon"):
        points = [(point["x"] * width, point["y"] * height) for point in polygon]
        draw.polygon(points, fill=(*color, round(alpha * _TINT)))
        draw.line([*points, points[0]], fill=(*color, alpha), width=_LINE, joint="curve")
    elif box := item.get("bounding_box"):
        left, top = box["x"] * width, box["y"] * height
        right, bottom = left + box["w"] * width, top + box["h"] * height
        edges = (left, top, max(left, right), max(top, bottom))
        draw.rounded_rectangle(edges, radius=4, outline=(*color, alpha), width=_LINE)
    layer.alpha_composite(shape)


def _anchor(item: dict[str, Any], size: tuple[int, int]) -> tuple[float, float]:
    """Returns the top left corner of what was found, in pixels."""
    width, height = size
    if polygon := item.get("polygon"):
        left, top = (min(point[axis] for point in polygon) for axis in ("x", "y"))
    elif box := item.get("bounding_box"):
        left, top = box["x"], box["y"]
    else:
        left = top = 0.0
    return left * width, top * height


def _draw_label(
    draw: ImageDraw.ImageDraw,
    item: dict[str, Any],
    anchor: tuple[float, float],
    size: tuple[int, int],
    taken: list[Box],
) -> None:
    """Writes name and confidence above an anchor, or at the next place below that is free."""
    font = ImageFont.load_default(_LETTERS)
    label = f"{item['name']} {item['confidence']:.2f}"
    wide = draw.textlength(label, font=font) + 2 * _PADDING
    high = _LETTERS + 2 * _PADDING + 1
    left = min(max(0.0, anchor[0]), max(0.0, size[0] - wide))
    top = max(0.0, anchor[1] - high)
    while any(_overlap((left, top, left + wide, top + high), other) for other in taken):
        top += high + 1
    if top + high > size[1]:
        # So many things in one place that a label more says nothing.
        return
    place = (left, top, left + wide, top + high)
    taken.append(place)
    color = _color(item)
    draw.rounded_rectangle(
        place, radius=4, fill=(*color, round(255 * max(_strength(item), _FAINTEST_LABEL)))
    )
    draw.text((left + _PADDING, top + _PADDING - 1), label, fill=_ink_on(color), font=font)


def _strength(item: dict[str, Any]) -> float:
    """Returns how strongly a thing is drawn, 0 to 1, by its confidence."""
    return _FAINTEST + (1 - _FAINTEST) * min(max(float(item["confidence"]), 0.0), 1.0)


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _color(item: dict[str, Any]) -> Rgb:
    try:
        red, green, blue = ImageColor.getrgb(item.get("color") or _COLOR)[:3]
    except ValueError:
        return _color({})
    return red, green, blue


def _ink_on(ground: Rgb) -> Rgb:
    """Returns the ink that can be read on a colour."""
    red, green, blue = ground
    return _DARK if 0.299 * red + 0.587 * green + 0.114 * blue > 150 else _LIGHT
