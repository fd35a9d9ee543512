"""What is measured and drawn of the pictures of a backfill, whichever way they are stored."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from PIL import Image, ImageFont, PngImagePlugin

from tests.turned import RED, RED_BOX, corners, orientation_exif, turned_file, unturned_files
from worker.backfill.errors import OutputError
from worker.backfill.results import pictures
from worker.backfill.results.coco import Coco
from worker.backfill.results.output import Output
from worker.backfill.results.pictures import render_all

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path


def found(name: str = "disc", box: Iterable[Any] = RED_BOX, **more: Any) -> dict[str, Any]:
    shape = dict(zip("xywh", box, strict=True))
    item = {"feature_id": f"id-{name}", "name": name, "confidence": 0.9, "color": "#2040ff"}
    return {**item, "bounding_box": shape, **more}


def record(number: int, file: Path | str, *items: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "item": number,
        "state": "succeeded",
        "data_path": str(file),
        "frames": {"0": list(items)},
        "attempts": 1,
        "seconds": 0.1,
    }


def shelved(folder: Path, *records: Mapping[str, Any]) -> Output:
    """Returns an output whose one part holds these records."""
    part = folder / "out" / "parts" / "part-000000.jsonl"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"".join(orjson.dumps(each) + b"\n" for each in records))
    return Output(str(folder / "out"))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff"])
def test_a_picture_is_measured_and_drawn_upright_whichever_way_it_is_stored(
    tmp_path: Path, suffix: str, orientation: int
) -> None:
    upright = corners()
    file = turned_file(tmp_path / f"turned.{suffix}", upright, orientation)
    shown = record(0, file, found())
    rows = Coco().rows(shown)
    assert (rows.images[0]["width"], rows.images[0]["height"]) == upright.size
    assert rows.results[0]["bbox"] == [0, 0, upright.width * 0.25, upright.height * 0.5]
    render_all(shelved(tmp_path, shown), tmp_path / "drawn")
    with Image.open(tmp_path / "drawn" / "0000000-turned-0.jpg") as drawn:
        assert drawn.width * upright.height == drawn.height * upright.width
        # In the middle of the box, below its label and inside of its edge.
        pixel = drawn.getpixel((drawn.width // 8, drawn.height // 3))
    assert isinstance(pixel, tuple)
    assert max(abs(one - other) for one, other in zip(pixel, RED, strict=True)) < 30


@pytest.mark.parametrize("exif", [b"Exif\0\0nonsense", orientation_exif(9), orientation_exif("6")])
@pytest.mark.filterwarnings("ignore")
def test_broken_exif_turns_nothing(tmp_path: Path, exif: bytes) -> None:
    file = tmp_path / "broken.jpg"
    corners().save(file, exif=exif)
    coco = Coco()
    rows = coco.rows(record(0, file))
    assert (rows.images[0]["width"], rows.images[0]["height"]) == corners().size
    assert coco.unmeasured.times == 0
    assert render_all(shelved(tmp_path, record(0, file)), tmp_path / "drawn").drawn == 1


def test_what_browsers_pass_over_turns_nothing(tmp_path: Path) -> None:
    """Nor does the API turn it, whose boxes would lie elsewhere."""
    files = unturned_files(tmp_path)
    shown = [record(number, file) for number, file in enumerate(files)]
    sizes = [Coco().rows(each).images[0] for each in shown]
    assert [(each["width"], each["height"]) for each in sizes] == [corners().size] * 2
    render_all(shelved(tmp_path, *shown), tmp_path / "drawn")
    for picture in (tmp_path / "drawn").glob("*.jpg"):
        with Image.open(picture) as drawn:
            assert drawn.width > drawn.height, "as it lies in the file"


def test_each_class_has_one_category_and_each_picture_its_own_size(tmp_path: Path) -> None:
    """Two classes, pictures of two shapes, and one whose size nobody knows."""
    wide, high = tmp_path / "wide.png", tmp_path / "high.png"
    Image.new("RGB", (200, 50)).save(wide)
    Image.new("RGB", (30, 90)).save(high)
    disc, ring = found("disc", (0.1, 0.2, 0.5, 0.4)), found("ring", (0.5, 0.5, 0.25, 0.5))
    star = found("ring", polygon=[{"x": 0.1, "y": 0.2}, {"x": 0.5, "y": 0.2}, {"x": 0.3, "y": 1.0}])
    del star["bounding_box"]
    coco = Coco()
    rows = [
        coco.rows(record(4, wide, disc, ring)),
        coco.rows(record(5, high, ring, star)),
        coco.rows(record(6, tmp_path / "gone.png", disc)),
    ]
    sizes = [(each.images[0]["width"], each.images[0]["height"]) for each in rows]
    assert sizes == [(200, 50), (30, 90), (1, 1)]
    assert [each.images[0]["id"] for each in rows] == [1, 2, 3]
    assert [each.images[0]["item"] for each in rows] == [4, 5, 6]
    told = [
        (each["image_id"], each["category_id"], each["bbox"])
        for row in rows
        for each in row.results
    ]
    assert told == [
        (1, 1, [20, 10, 100, 20]),
        (1, 2, [100, 25, 50, 25]),
        (2, 2, [15, 45, 7.5, 45]),
        (2, 2, [3, 18, 12, 72]),
        (3, 1, [0.1, 0.2, 0.5, 0.4]),
    ]
    assert rows[1].results[1]["segmentation"] == [[3, 18, 15, 18, 9, 90]]
    assert "segmentation" not in rows[1].results[0]
    assert list(coco.categories.items()) == [
        ("id-disc", {"id": 1, "name": "disc"}),
        ("id-ring", {"id": 2, "name": "ring"}),
    ]


def test_features_of_one_name_stay_two_categories() -> None:
    coco = Coco()
    one, other = found("disc"), {**found("disc"), "feature_id": "another"}
    rows = coco.rows(record(0, "gone.png", one, other))
    assert [each["category_id"] for each in rows.results] == [1, 2]


def bomb(file: Path) -> Path:
    """Writes a picture of 196 megapixels, which Pillow takes for an attack."""
    Image.new("1", (14_000, 14_000)).save(file)
    return file


def wordy(file: Path, mebibytes: int) -> Path:
    """Writes a picture with a text of so many MiB, packed."""
    text = PngImagePlugin.PngInfo()
    text.add_text("prompt", "x" * (mebibytes << 20), zip=True)
    corners().save(file, pnginfo=text)
    return file


def test_what_pillow_refuses_is_measured_where_its_head_tells(tmp_path: Path) -> None:
    coco = Coco()
    rows = [
        coco.rows(record(0, bomb(tmp_path / "bomb.png"))),
        coco.rows(record(1, wordy(tmp_path / "wordy.png", 2))),
        coco.rows(record(2, wordy(tmp_path / "novel.png", 65))),
    ]
    sizes = [(each.images[0]["width"], each.images[0]["height"]) for each in rows]
    assert sizes == [(14_000, 14_000), corners().size, (1, 1)]
    assert coco.unmeasured.times == 1
    assert "novel.png" in coco.unmeasured.first


def test_a_picture_that_can_t_be_drawn_is_named_and_keeps_no_other_from_it(tmp_path: Path) -> None:
    plain = turned_file(tmp_path / "plain.png", corners(), 1)
    broken = tmp_path / "broken.png"
    broken.write_bytes(plain.read_bytes()[:100])
    number = found("disc", (None, 0.2, 0.3, 0.4))
    output = shelved(
        tmp_path,
        record(0, bomb(tmp_path / "bomb.png"), found()),
        record(1, wordy(tmp_path / "novel.png", 65)),
        record(2, broken),
        record(3, tmp_path / "gone.png"),
        record(4, plain, number, found("ring")),
        {**record(5, ""), "data_path": None, "data_uuid": "x"},
        record(6, tmp_path / f"{'long' * 50}.png"),
        record(7, plain, {**found(), "name": None}),
    )
    rendered = render_all(output, tmp_path / "drawn")
    assert rendered.drawn == 2
    assert rendered.skipped.times == 4
    assert "bomb.png" in rendered.skipped.first
    assert "14000 x 14000 pixels" in rendered.skipped.first
    assert rendered.without_file == 2
    assert (tmp_path / "drawn" / "0000004-plain-0.jpg").exists()
    assert (tmp_path / "drawn" / "index.html").read_text().count("<img") == 2


def test_a_large_picture_is_drawn_smaller_and_a_slim_one_does_not_explode(tmp_path: Path) -> None:
    for name, size in (("large.jpg", (9_000, 3_000)), ("slim.png", (1, 2_000))):
        Image.new("RGB", size).save(tmp_path / name)
    output = shelved(
        tmp_path, record(0, tmp_path / "large.jpg", found()), record(1, tmp_path / "slim.png")
    )
    assert render_all(output, tmp_path / "drawn").drawn == 2
    with Image.open(tmp_path / "drawn" / "0000000-large-0.jpg") as drawn:
        assert (drawn.width, drawn.height) == (4_096, 1_365)
    with Image.open(tmp_path / "drawn" / "0000001-slim-0.jpg") as drawn:
        assert max(drawn.size) <= 4_096


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_a_picture_of_16_bits_is_drawn_as_browsers_show_it(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"deep.{suffix}"
    Image.new("I;16", (64, 64), 100 * 256 + 7).save(file)
    assert render_all(shelved(tmp_path, record(0, file)), tmp_path / "drawn").drawn == 1
    with Image.open(tmp_path / "drawn" / "0000000-deep-0.jpg") as drawn:
        assert drawn.getpixel((30, 30)) == pytest.approx((100, 100, 100), abs=3)


def test_a_picture_whose_name_looks_like_a_chain_of_urls_is_drawn(tmp_path: Path) -> None:
    plain = turned_file(tmp_path / "a::b.png", corners(), 1)
    rendered = render_all(shelved(tmp_path, record(0, plain, found())), tmp_path / "drawn")
    assert (rendered.drawn, rendered.without_file) == (1, 0)


@pytest.mark.parametrize("host", ["", "localhost"])
def test_a_picture_that_a_file_url_names_is_measured_and_drawn(tmp_path: Path, host: str) -> None:
    upright = corners()
    file = turned_file(tmp_path / "a picture.png", upright, 1)
    shown = record(0, file.as_uri().replace("file://", f"file://{host}"), found())
    rows = Coco().rows(shown)
    assert (rows.images[0]["width"], rows.images[0]["height"]) == upright.size
    rendered = render_all(shelved(tmp_path, shown), tmp_path / "drawn")
    assert (rendered.drawn, rendered.without_file) == (1, 0)


def test_of_a_clip_only_the_frames_that_were_asked_for_are_drawn(tmp_path: Path) -> None:
    """The others would look like frames in which nothing was found."""
    first, *others = [Image.new("RGB", (40, 20), (level,) * 3) for level in (0, 120, 240)]
    first.save(tmp_path / "clip.gif", save_all=True, append_images=others)
    asked = record(0, tmp_path / "clip.gif") | {"frames": {"1": [found()]}}
    assert render_all(shelved(tmp_path, asked), tmp_path / "drawn").drawn == 1
    assert [each.name for each in (tmp_path / "drawn").glob("*.jpg")] == ["0000000-clip-1.jpg"]


def test_a_folder_that_can_t_be_written_stops_the_drawing(tmp_path: Path) -> None:
    plain = turned_file(tmp_path / "plain.png", corners(), 1)
    output = shelved(tmp_path, record(0, plain))
    (tmp_path / "drawn").write_text("a file")
    with pytest.raises(OutputError, match="drawn: can't be written"):
        render_all(output, tmp_path / "drawn")


def test_a_picture_that_can_t_be_written_stops_the_drawing_too(tmp_path: Path) -> None:
    """It is no fault of the picture, and each one more would fail alike."""
    plain = turned_file(tmp_path / "plain.png", corners(), 1)
    output = shelved(tmp_path, *(record(number, plain) for number in range(3)))
    (tmp_path / "drawn" / "0000001-plain-0.jpg").mkdir(parents=True)
    with pytest.raises(OutputError, match=r"0000001-plain-0\.jpg: can't be written"):
        render_all(output, tmp_path / "drawn")
    assert (tmp_path / "drawn" / "0000000-plain-0.jpg").is_file()


def test_without_freetype_labels_are_written_in_a_coarser_font(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise ImportError("The _imagingft C module is not installed")

    monkeypatch.setattr(ImageFont, "load_default", refuse)
    pictures._font.cache_clear()
    try:
        plain = turned_file(tmp_path / "plain.png", corners(), 1)
        output = shelved(tmp_path, record(0, plain, found("Straße 東")))
        assert render_all(output, tmp_path / "drawn").drawn == 1
    finally:
        pictures._font.cache_clear()


def test_the_query_of_a_url_is_no_part_of_a_name() -> None:
    assert pictures._stem("https://host/a%20b.png?sig=se.cret") == "a b"
    assert pictures._stem("/data/ü.v2.png") == "ü.v2"
    assert len(pictures._stem(f"/data/{'ü' * 200}.png").encode()) <= 120


@pytest.mark.parametrize(("count", "pages"), [(0, 1), (1, 1), (3, 1), (4, 2), (6, 2), (7, 3)])
def test_no_page_of_a_gallery_is_empty_but_that_of_no_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, pages: int
) -> None:
    monkeypatch.setattr(pictures, "_MOST_SHOWN", 3)
    pictures._write_gallery(tmp_path, [f"{number}.jpg" for number in range(count)])
    assert len(list(tmp_path.glob("index*.html"))) == pages


def test_more_pictures_than_a_page_takes_stand_on_further_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "_MOST_SHOWN", 3)
    plain = tmp_path / "plain.png"
    Image.new("RGB", (480, 480)).save(plain)
    output = shelved(tmp_path, *(record(number, plain) for number in range(7)))
    assert render_all(output, tmp_path / "drawn").drawn == 7
    names = ["index.html", "index-2.html", "index-3.html"]
    pages = [(tmp_path / "drawn" / name).read_text() for name in names]
    assert [page.count("<img") for page in pages] == [3, 3, 1]
    for number, page in enumerate(pages):
        others = [name for name in names if name != names[number]]
        assert all(f'href="{name}"' in page for name in others), "each leads to all others"
        assert f"7 pictures, page {number + 1} of 3" in page
    shown = [page.index("0000000-plain") if "0000000-plain" in page else -1 for page in pages]
    assert [at >= 0 for at in shown] == [True, False, False]
    order = [f"{number:07d}-plain-0.jpg" for number in range(7)]
    places = [pages[number // 3].index(f">{name}<") for number, name in enumerate(order)]
    assert all(
        one < other
        for (first, one), (second, other) in pairwise(enumerate(places))
        if first // 3 == second // 3
    )
