"""Pictures of held-out items: what is drawn, where, and what is not."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from demo.canvas import Canvas, parse_color
from demo.curves import curve_name, draw_curve
from demo.dataset import Feature, Item, Project
from demo.frames import predicted_frames, true_frames
from demo.pictures import draw_item, read_frames
from demo.plan import CLASSIFICATION, DETECTION
from demo.scenario import Trained
from tests.turned import RED as RED_PIXEL
from tests.turned import corners, turned_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

RED, BLUE = "#ff0000", "#0000ff"
CIRCLE = Feature("h-circle", "circle", "boundingBox", RED)
STAR = Feature("h-star", "star", "polygon", BLUE)
PLAIN = Feature("h-plain", "plain", "classificationOption", "#777777")
PROJECT = Project("p", "Shapes", (CIRCLE, STAR, PLAIN), ())
BOX = {"x": 0.25, "y": 0.25, "w": 0.5, "h": 0.5}
TRIANGLE = [{"x": 0.1, "y": 0.1}, {"x": 0.9, "y": 0.1}, {"x": 0.5, "y": 0.9}]


def frame(left: float = 0.25) -> dict[str, Any]:
    place = {**BOX, "x": left}
    return {
        "objects": [{"featureHash": "h-circle", "track": 0, "boundingBox": place}],
        "classification": "h-plain",
    }


def found(object_id: str, left: float = 0.25) -> dict[str, Any]:
    return {
        "feature_id": "h-circle",
        "object_id": object_id,
        "confidence": 0.9,
        "bounding_box": {**BOX, "x": left},
    }


def trained(predicted: Mapping[str, Any], plan: Any = DETECTION) -> Trained:
    return Trained(
        plan=plan,
        number=1,
        labels=1,
        losses={1: 2.0, 2: 1.0},
        seconds=1,
        predicted={"d": predicted},
        frames=1,
        score=0.5,
    )


def clip(tmp_path: Path, frames: int) -> Item:
    """An item of grey frames, each a little lighter."""
    file = tmp_path / "clip.gif"
    first, *others = [Image.new("RGB", (80, 60), (100 + 20 * n,) * 3) for n in range(frames)]
    first.save(file, save_all=True, append_images=others)
    truth = [frame(0.1 + 0.1 * number) for number in range(frames)]
    return Item("d", "l", file, frames, "heldout", truth)


def still(tmp_path: Path) -> Item:
    file = tmp_path / "still.png"
    Image.new("RGB", (80, 60), (128, 128, 128)).save(file)
    return Item("d", "l", file, 1, "heldout", [frame()])


def halves(file: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The picture's left and right half, without its legend."""
    with Image.open(file) as picture:
        pixels = np.asarray(picture)[:300]
    middle = pixels.shape[1] // 2
    return pixels[:, :middle], pixels[:, middle:]


def count_red(pixels: NDArray[np.uint8]) -> int:
    red, green, blue = (pixels[..., channel].astype(int) for channel in range(3))
    return int(((red > 180) & (green < 80) & (blue < 80)).sum())


def test_what_was_found_is_drawn_on_the_right_and_the_truth_on_the_left(tmp_path: Path) -> None:
    drawn = tmp_path / "drawn.jpg"
    draw_item(still(tmp_path), PROJECT, [trained({"0": [found("a")]})], drawn)
    left, right = halves(drawn)
    assert count_red(left) > 500
    assert count_red(right) > 500


def test_what_was_not_found_is_not_drawn(tmp_path: Path) -> None:
    drawn = tmp_path / "drawn.jpg"
    draw_item(still(tmp_path), PROJECT, [trained({"0": []})], drawn)
    left, right = halves(drawn)
    assert count_red(left) > 500
    assert count_red(right) == 0


def test_a_clip_shows_all_its_frames_in_two_rows(tmp_path: Path) -> None:
    item = clip(tmp_path, 3)
    drawn = tmp_path / "drawn.jpg"
    draw_item(item, PROJECT, [trained({})], drawn)
    with Image.open(drawn) as picture:
        width, height = picture.size
    assert width > 3 * 200
    assert width > height


def test_frames_come_in_their_order_from_clips_and_from_folders(tmp_path: Path) -> None:
    item = clip(tmp_path, 3)
    group = tmp_path / "group"
    group.mkdir()
    for number, pixels in enumerate(read_frames(item.file)):
        Image.fromarray(pixels).save(group / f"{number:03d}.png")
    for file in (item.file, group):
        assert [int(pixels[0, 0, 0]) for pixels in read_frames(file)] == [100, 120, 140]


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_a_picture_that_its_camera_turned_is_drawn_as_browsers_show_it(
    tmp_path: Path, orientation: int
) -> None:
    shown = corners()
    (pixels,) = read_frames(turned_file(tmp_path / "turned.jpg", shown, orientation))
    assert pixels.shape == (shown.height, shown.width, 3)
    red = pixels[: shown.height // 3, : shown.width // 5].astype(int)
    assert abs(red - RED_PIXEL).max() < 40


def test_what_is_drawn_says_its_class(tmp_path: Path) -> None:
    """Beside it, not in the legend alone: a longer name is a longer tag."""
    reds = []
    for name in ("o", "circle-with-a-name"):
        project = Project("p", "Shapes", (replace(CIRCLE, name=name), PLAIN), ())
        drawn = tmp_path / f"{name}.jpg"
        draw_item(still(tmp_path), project, [trained({"0": [found("a")]})], drawn)
        reds.append([count_red(half) for half in halves(drawn)])
    short, long = reds
    assert all(more > less + 300 for less, more in zip(short, long, strict=True)), reds


def test_the_same_object_has_one_track_number_in_all_frames(tmp_path: Path) -> None:
    item = clip(tmp_path, 3)
    frames = {
        "0": [found("a"), found("b")],
        "1": [found("b")],
        "2": [found("c"), found("a")],
    }
    shown_frames = predicted_frames(item, PROJECT, [trained(frames)])
    assert [[thing.track for thing in frame.things] for frame in shown_frames] == [
        [1, 2],
        [2],
        [3, 1],
    ]


def test_what_a_model_is_not_sure_of_is_not_drawn(tmp_path: Path) -> None:
    doubtful = {**found("a"), "confidence": 0.49}
    (frame,) = predicted_frames(still(tmp_path), PROJECT, [trained({"0": [doubtful, found("b")]})])
    assert [thing.confidence for thing in frame.things] == [0.9]


def test_a_frame_without_a_prediction_shows_nothing(tmp_path: Path) -> None:
    option = {"feature_id_child": "h-plain", "confidence": 0.7}
    item = clip(tmp_path, 2)
    models = [trained({"0": [found("a")]}), trained({"0": option, "1": None}, CLASSIFICATION)]
    first, second = predicted_frames(item, PROJECT, models)
    assert (len(first.things), first.option, first.option_confidence) == (1, PLAIN, 0.7)
    assert (len(second.things), second.option) == (0, None)


def test_boxes_and_polygons_of_the_truth_become_outlines(tmp_path: Path) -> None:
    star = {"featureHash": "h-star", "track": 1, "polygon": TRIANGLE}
    truth = [{"objects": [*frame()["objects"], star], "classification": None}]
    item = Item("d", "l", tmp_path, 1, "heldout", truth)
    (shown,) = true_frames(item, PROJECT)
    box, outline = shown.things
    assert box.outline.tolist() == [[0.25, 0.25], [0.75, 0.25], [0.75, 0.75], [0.25, 0.75]]
    assert outline.outline.tolist() == [[0.1, 0.1], [0.9, 0.1], [0.5, 0.9]]
    assert (box.track, outline.track) == (1, 2)
    assert shown.option is None


def test_a_filled_shape_tints_what_lies_inside_and_nothing_else() -> None:
    canvas = Canvas(40, 40, (0, 0, 0))
    canvas.fill(
        np.array([[10.0, 10.0], [30.0, 10.0], [30.0, 30.0], [10.0, 30.0]]), (200, 0, 0), 0.5
    )
    assert canvas.pixels[20, 20].tolist() == [100, 0, 0]
    assert canvas.pixels[5, 5].tolist() == [0, 0, 0]


def test_a_tag_at_the_edge_stays_inside() -> None:
    canvas = Canvas(60, 40, (0, 0, 0))
    canvas.tag(58, 2, "#1 0.93", (255, 0, 0), 12)
    assert count_red(canvas.pixels) > 200


@pytest.mark.parametrize(("text", "color"), [("#d33115", (211, 49, 21)), ("#000000", (0, 0, 0))])
def test_colours_of_an_ontology_are_read(text: str, color: tuple[int, int, int]) -> None:
    assert parse_color(text) == color


def test_a_curve_is_drawn_for_light_pages_and_for_dark_ones(tmp_path: Path) -> None:
    draw_curve(trained({}), tmp_path)
    drawn = [(tmp_path / curve_name(trained({}), theme)).read_text() for theme in ("light", "dark")]
    assert all("mean loss" in svg and "epoch" in svg for svg in drawn)
    assert drawn[0] != drawn[1]
