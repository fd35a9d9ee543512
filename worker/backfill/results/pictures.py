"""Draws what was found onto the pictures of a backfill, as far as their files can be read here."""

from __future__ import annotations

import io
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from html import escape
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from urllib.parse import quote, unquote, urlsplit

from PIL import Image, ImageColor, ImageDraw, ImageFont, ImageSequence

from schemas.wording import counted
from worker.backfill.errors import OutputError
from worker.backfill.results.finalization import succeeded_records
from worker.backfill.results.images import (
    in_rgb,
    open_picture,
    orientation,
    pillow_warnings_ignored,
    upright,
)
from worker.backfill.results.summary import Skipped, found_items, has_numbers
from worker.files.file_access import local_path
from worker.files.remote_files import MAX_IMAGE_BYTES, read_remote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from worker.backfill.results.output import Output
    from worker.backfill.results.parts import Record

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
# More on a page would be too much for a browser.
_MOST_SHOWN: Final = 2_000
# Unpacked, a picture takes three bytes a pixel, and for a moment four times as much.
_MOST_PIXELS: Final = 100_000_000
# A larger picture is drawn smaller: each thing is laid over all of it.
_LONGEST_SIDE: Final = 4_096
# File systems take names of 255 bytes.
_NAME_BYTES: Final = 120

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
nav {{ display: flex; flex-wrap: wrap; gap: 6px 14px; margin: 16px 0; font-size: 16px; }}
</style></head><body><h1>{title}</h1>{pages}<main>
{pictures}
</main>{pages}</body></html>
"""


class _NoFileError(Exception):
    """An item names no file, or its frames lie where they can't be read here."""


@dataclass(slots=True)
class Rendered:
    """What came of drawing the items of a backfill.

    Attributes:
        drawn: pictures.
        without_file: items whose picture can't be read here: its file lies elsewhere.
        skipped: items whose picture is here but could not be drawn.
    """

    drawn: int = 0
    without_file: int = 0
    skipped: Skipped = field(default_factory=Skipped)


def render_all(
    output: Output, folder: Path, tell: Callable[[int], None] = lambda _done: None
) -> Rendered:
    """Draws all items, and pages that show them.

    Args:
        output: where the results are.
        folder: for the pictures.
        tell: is told how many items are done, after each.

    Raises:
        OutputError: the folder can't be written; what was drawn so far is there.
        Exception: of any class, where the results can't be read.
    """
    rendered = Rendered()
    names: list[str] = []
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with pillow_warnings_ignored():
        for number, record in enumerate(succeeded_records(output), 1):
            try:
                names.extend(_render(record, folder))
            except (FileNotFoundError, _NoFileError):
                rendered.without_file += 1
            except OutputError:
                raise
            except Exception as exc:  # noqa: BLE001 - Pillow says in many ways what it can't read
                rendered.skipped.count(record, exc)
            tell(number)
    rendered.drawn = len(names)
    with _writing(folder):
        _write_gallery(folder, sorted(names))
    return rendered


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise OutputError(f"{path}: can't be written: {exc.strerror or exc}") from exc


def _write_gallery(folder: Path, names: list[str]) -> None:
    """Writes `index.html`, and where one page would be too much for a browser, further ones."""
    pages = max(1, -(-len(names) // _MOST_SHOWN))
    for page in range(1, pages + 1):
        shown = names[(page - 1) * _MOST_SHOWN : page * _MOST_SHOWN]
        pictures = "\n".join(
            f'<figure><a href="{quote(name)}"><img loading="lazy" src="{quote(name)}" '
            f'alt="{escape(name)}"></a><figcaption>{escape(name)}</figcaption></figure>'
            for name in shown
        )
        title = counted(len(names), "picture", grouped=True) + (
            f", page {page} of {pages}" if pages > 1 else ""
        )
        text = _GALLERY.format(title=title, pictures=pictures, pages=_links(page, pages))
        (folder / _page_name(page)).write_text(text, "utf-8")


def _page_name(page: int) -> str:
    return "index.html" if page == 1 else f"index-{page}.html"


def _links(page: int, pages: int) -> str:
    """Returns links to the other pages."""
    if pages == 1:
        return ""
    links = "".join(
        f'<a href="{_page_name(each)}">{each}</a>' if each != page else f"<b>{each}</b>"
        for each in range(1, pages + 1)
    )
    return f"<nav>{links}</nav>"


def _render(record: Record, folder: Path) -> Iterator[str]:
    """Draws the frames of an item; yields the names of the pictures."""
    if "data_path" not in record or "frames" not in record:
        raise _NoFileError
    found: dict[int, list[dict[str, Any]]] = {}
    for number, item in found_items(record):
        if has_numbers(item):
            found.setdefault(number, []).append(item)
    stem = _stem(record["data_path"])
    # Whole, for Pillow goes to and fro in a file, which what a web server sends does not allow.
    place = local_path(record["data_path"]) or record["data_path"]
    content = io.BytesIO(read_remote(str(place), MAX_IMAGE_BYTES))
    with open_picture(content) as picture:
        turn = orientation(picture)
        if picture.format == "JPEG":
            # Decoded as small as will do, at a fraction of time and memory.
            picture.draft(None, (_LONGEST_SIDE, _LONGEST_SIDE))
        for number, frame in enumerate(ImageSequence.Iterator(picture)):
            if str(number) not in record["frames"]:
                continue
            width, height = frame.size
            if not 0 < width * height <= _MOST_PIXELS:
                raise ValueError(f"{width} x {height} pixels, {_MOST_PIXELS:,} can be drawn")
            canvas = _fitted(upright(in_rgb(frame), turn))
            drawn = _drawn(canvas, found.get(number, []))
            name = f"{record['item']:07d}-{stem}-{number}.jpg"
            with _writing(folder / name):
                drawn.save(folder / name, quality=90)
            yield name


def _stem(location: str) -> str:
    """Returns what a picture is called, short enough for a file's name; no part of a query."""
    path = unquote(urlsplit(location).path) if "://" in location else location
    return PurePosixPath(path).stem.encode("utf-8", "replace")[:_NAME_BYTES].decode(errors="ignore")


def _fitted(picture: Image.Image) -> Image.Image:
    """Returns a picture large enough for labels, and small enough to be laid over itself."""
    largest = max(picture.size)
    if largest <= _LONGEST_SIDE:
        return _grown(picture)
    size = [max(1, round(side * _LONGEST_SIDE / largest)) for side in picture.size]
    return picture.resize((size[0], size[1]), Image.Resampling.BICUBIC, reducing_gap=2.0)


def _grown(picture: Image.Image) -> Image.Image:
    width, height = picture.size
    scale = max(
        1, min(-(-_SHORTEST_SIDE // min(width, height)), _LONGEST_SIDE // max(width, height))
    )
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
    font = _font()
    label = f"{item['name']} {item['confidence']:.2f}"
    if not isinstance(font, ImageFont.FreeTypeFont):
        label = label.encode("latin-1", "replace").decode("latin-1")
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


@lru_cache
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Returns the font of labels; a Pillow that was built without FreeType has a coarse one."""
    try:
        return ImageFont.load_default(_LETTERS)
    except (ImportError, OSError):
        return ImageFont.load_default_imagefont()


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
