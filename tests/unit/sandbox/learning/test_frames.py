"""Frames of pictures, clips and image groups: which there are, in which order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from sandbox.learning.errors import FrameRangeError, UnreadableMediaError
from sandbox.learning.frames import count_frames, measure, read_frames
from tests.turned import corners, orientation_exif, turned_file, unturned_files

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LEVELS = (0, 60, 120, 180, 240)
"""The grey of each frame."""


def _greys(count: int = len(LEVELS)) -> list[Image.Image]:
    return [Image.new("RGB", (12, 8), (level,) * 3) for level in LEVELS[:count]]


def _gif(folder: Path) -> Path:
    file = folder / "clip.gif"
    first, *others = _greys()
    first.save(file, save_all=True, append_images=others)
    return file


def _group(folder: Path) -> Path:
    group = folder / "group"
    group.mkdir()
    for number, picture in enumerate(_greys(), 7):
        picture.save(group / f"{number}.png")
    (group / "notes.txt").write_text("no picture")
    return group


def _bytes(folder: Path) -> bytes:
    return _gif(folder).read_bytes()


@pytest.fixture(params=[_gif, _group, _bytes])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Path | bytes:
    """Five frames as a file, as a folder of numbered pictures, as bytes."""
    make: Callable[[Path], Path | bytes] = request.param
    return make(tmp_path)


def test_every_frame_comes_in_its_order(source: Path | bytes) -> None:
    frames = list(read_frames(source))
    assert count_frames(source) == len(LEVELS)
    assert [frame.shape for frame in frames] == [(8, 12, 3)] * 5
    assert [int(frame.mean()) for frame in frames] == list(LEVELS)


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_of_16_bits_the_upper_eight_count_as_in_browsers(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"deep.{suffix}"
    Image.new("I;16", (12, 8), 100 * 256 + 7).save(file)
    (frame,) = read_frames(file)
    assert frame.shape == (8, 12, 3)
    assert (frame.min(), frame.max()) == (100, 100)


@pytest.mark.parametrize(
    ("first", "last", "levels"),
    [(1, 3, LEVELS[1:4]), (4, 4, LEVELS[4:]), (0, None, LEVELS), (3, None, LEVELS[3:])],
)
def test_a_range_has_both_its_ends(
    source: Path | bytes, first: int, last: int | None, levels: tuple[int, ...]
) -> None:
    found = [int(frame.mean()) for frame in read_frames(source, first, last)]
    assert found == list(levels)


@pytest.mark.parametrize(("first", "last"), [(-1, 2), (0, 5), (3, 2), (5, None)])
def test_a_range_outside_is_refused_before_a_frame_is_read(
    source: Path | bytes, first: int, last: int | None
) -> None:
    with pytest.raises(FrameRangeError, match="the item has 5: 0 to 4"):
        read_frames(source, first, last)


def test_a_group_is_in_the_order_of_its_numbers(tmp_path: Path) -> None:
    for number, picture in zip((10, 9, 100), _greys(3), strict=True):
        picture.save(tmp_path / f"frame{number}.png")
    assert [int(frame.mean()) for frame in read_frames(tmp_path)] == [60, 0, 120]


def test_a_source_is_measured_from_its_head(tmp_path: Path) -> None:
    assert measure(_gif(tmp_path)) == (5, 12, 8)
    assert measure(_group(tmp_path)) == (5, 12, 8)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "webp", "tiff", "jpg"])
def test_a_picture_comes_upright_whichever_way_it_is_stored(
    tmp_path: Path, suffix: str, orientation: int
) -> None:
    """Also as bytes; its size is that of the upright picture, and known from its head."""
    upright = corners()
    file = turned_file(tmp_path / f"turned.{suffix}", upright, orientation)
    assert measure(file) == (1, *upright.size)
    for source in (file, file.read_bytes()):
        (frame,) = read_frames(source)
        assert np.abs(frame.astype(int) - np.asarray(upright)).max() < 60, "but for JPEG's noise"


def test_each_frame_of_a_group_and_of_a_clip_comes_upright(tmp_path: Path) -> None:
    """In a group each picture has an orientation of its own, in a clip one counts for all."""
    upright = corners()
    group = tmp_path / "group"
    group.mkdir()
    for number, orientation in enumerate((6, 1, 3, 8)):
        turned_file(group / f"{number}.png", upright, orientation)
    clip = tmp_path / "clip.webp"
    stored = upright.transpose(Image.Transpose.ROTATE_90)
    # The same picture twice would be one frame.
    other = stored.point(lambda value: value + 1)
    options: dict[str, Any] = {"lossless": True, "exif": orientation_exif(6)}
    stored.save(clip, save_all=True, append_images=[other], **options)
    for source, frames in ((group, 4), (clip, 2)):
        assert measure(source) == (frames, *upright.size)
        found = list(read_frames(source))
        assert len(found) == frames
        for frame in found:
            assert np.abs(frame.astype(int) - np.asarray(upright)).max() < 5


@pytest.mark.parametrize(
    "exif",
    [
        b"",
        b"Exif\0\0",
        b"Exif\0\0nonsense",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        orientation_exif(0),
        orientation_exif(9),
        orientation_exif("6"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_broken_exif_is_passed_over(tmp_path: Path, exif: bytes) -> None:
    file = tmp_path / "broken.jpg"
    corners().save(file, exif=exif)
    assert measure(file) == (1, *corners().size)
    (frame,) = read_frames(file)
    assert frame.shape == (corners().height, corners().width, 3)


def test_what_browsers_pass_over_turns_no_picture(tmp_path: Path) -> None:
    for file in unturned_files(tmp_path):
        assert measure(file) == (1, *corners().size)
        (frame,) = read_frames(file)
        assert frame.shape == (corners().height, corners().width, 3)


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n" + b"x" * 40, b"text"])
def test_what_is_no_picture_is_named(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "broken.png"
    file.write_bytes(content)
    with pytest.raises(UnreadableMediaError, match=r"broken.png can't be read"):
        list(read_frames(file))
    with pytest.raises(UnreadableMediaError, match=rf"the data \({len(content)} bytes\)"):
        list(read_frames(content))


def test_a_missing_file_and_an_empty_group_are_named(tmp_path: Path) -> None:
    with pytest.raises(UnreadableMediaError, match=r"none\.png does not exist"):
        count_frames(tmp_path / "none.png")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UnreadableMediaError, match="the image group empty holds no picture"):
        count_frames(tmp_path / "empty")


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    file = tmp_path / "bomb.png"
    Image.new("1", (8001, 8001)).save(file)
    with pytest.raises(UnreadableMediaError, match="more than 64000000 pixels"):
        count_frames(file)
