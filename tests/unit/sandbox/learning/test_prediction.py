"""What thresholds do to what a net says: confidence, suppression, simplification of outlines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np
import pytest

from sandbox.learning import views
from sandbox.learning.nets import Finding, Net, init
from sandbox.learning.prediction import Predictor, _outline, _suppressed
from schemas.enums import ModelArchitecture

if TYPE_CHECKING:
    from numpy.typing import NDArray

FRAME = np.zeros((96, 96, 3), np.uint8)
# Two boxes of IoU 2/3 and one apart, x0 y0 x1 y1.
BOXES = ((0.1, 0.1, 0.5, 0.5), (0.1, 0.1, 0.5, 0.7), (0.6, 0.1, 0.9, 0.4))


def _found(
    confidences: list[list[float]], conf: float = 0.5, iou: float = 0.5
) -> list[tuple[int, float]]:
    """Returns feature and confidence of what stays of the three boxes."""
    nothing = jnp.zeros((1, 1))
    finding = Finding(jnp.array([confidences]), jnp.array([BOXES]), nothing, nothing)
    kept = _suppressed(finding, views.letterbox(FRAME), conf, iou)
    return list(zip(kept.features, [round(one, 3) for one in kept.confidences], strict=True))


def test_of_two_boxes_that_overlap_by_more_than_iou_the_surer_stays() -> None:
    confidences = [[0.8], [0.9], [0.7]]
    assert _found(confidences, iou=0.6) == [(0, 0.9), (0, 0.7)]
    assert _found(confidences, iou=0.7) == [(0, 0.9), (0, 0.8), (0, 0.7)]


def test_boxes_of_different_features_do_not_suppress_each_other() -> None:
    assert _found([[0.8, 0.0], [0.0, 0.9], [0.0, 0.0]]) == [(1, 0.9), (0, 0.8)]


def test_what_the_model_is_less_sure_of_is_left_out() -> None:
    confidences = [[0.2], [0.0], [0.7]]
    assert _found(confidences, conf=0.5) == [(0, 0.7)]
    assert _found(confidences, conf=0.1) == [(0, 0.7), (0, 0.2)]
    assert _found(confidences, conf=0.75) == []


@pytest.mark.parametrize(("width", "height"), [(96, 96), (200, 100), (60, 120)])
def test_boxes_come_back_in_shares_of_the_frame(width: int, height: int) -> None:
    picture = views.shrunk(np.zeros((height, width, 3), np.uint8), 96)
    view = views.letterbox(picture)
    wanted = np.array([[0.25, 0.5, 0.75, 1.0]])
    square = view.to_square(wanted.reshape(-1, 2, 2)).reshape(1, 1, 4)
    nothing = jnp.zeros((1, 1))
    finding = Finding(jnp.array([[[0.9]]]), jnp.array(square), nothing, nothing)
    assert _suppressed(finding, view, 0.5, 0.5).boxes == pytest.approx(wanted, abs=1e-6)


def _disc() -> NDArray[np.float32]:
    """A mask of 28 x 28: positive inside a circle about its middle."""
    x, y = np.meshgrid(np.arange(28) + 0.5, np.arange(28) + 0.5)
    return np.asarray(10 - np.hypot(x - 14, y - 14), np.float32)


def _corners(rdp: float, shape: tuple[int, ...] = FRAME.shape) -> NDArray[np.float64]:
    outline = _outline(_disc(), np.array([0.2, 0.2, 0.8, 0.8]), shape, rdp)
    assert outline is not None
    return outline


def _off_the_circle(corners: NDArray[np.float64]) -> float:
    """Returns how far the outline comes off the circle, in shares of the frame."""
    edges = np.linspace(corners, np.roll(corners, -1, axis=0), 50).reshape(-1, 2)
    return float(np.abs(np.hypot(*(edges - 0.5).T) - 0.6 * 10 / 28).max())


def test_a_higher_tolerance_leaves_fewer_corners_and_keeps_within_it() -> None:
    exact, fine, coarse = (_corners(rdp) for rdp in (0.0, 0.002, 0.01))
    assert len(exact) > len(fine) > len(coarse) >= 6
    assert _off_the_circle(exact) < 0.006
    assert _off_the_circle(fine) < _off_the_circle(exact) + 0.002
    assert _off_the_circle(coarse) < _off_the_circle(exact) + 0.01


def test_the_tolerance_is_a_share_of_the_longer_side() -> None:
    # Four times as wide as high: heights count a quarter, so that fewer corners are needed.
    assert len(_corners(0.01, (24, 96, 3))) < len(_corners(0.01))


def test_a_mask_of_nothing_has_no_outline() -> None:
    nothing = np.full((28, 28), -1, np.float32)
    assert _outline(nothing, np.array([0.2, 0.2, 0.8, 0.8]), FRAME.shape, 0.005) is None


def test_of_two_parts_the_larger_is_the_outline() -> None:
    mask = np.full((28, 28), -1, np.float32)
    mask[2:6, 2:6] = 1
    mask[10:26, 10:26] = 1
    outline = _outline(mask, np.array([0.0, 0.0, 1.0, 1.0]), FRAME.shape, 0.005)
    assert outline is not None
    assert outline.min() == pytest.approx(10 / 28, abs=0.02)
    assert outline.max() == pytest.approx(26 / 28, abs=0.02)


def test_an_untrained_detector_is_sure_of_nothing() -> None:
    net = Net(ModelArchitecture.FASTER_RCNN, features=2)
    predictor = Predictor(init(net, 0), net, ["cat", "dog"])
    frame = np.random.default_rng(1).integers(0, 255, (60, 90, 3), np.uint8)
    assert predictor.detect(frame, 0.5, 0.5) == []
    found = predictor.detect(frame, 0.0, 1.0)
    assert 0 < len(found) <= 100
    assert all(0 <= one.box.x <= one.box.x + one.box.w <= 1 for one in found)


def test_the_shares_of_a_classifier_sum_up_to_one() -> None:
    net = Net(ModelArchitecture.RESNET_18, features=3)
    predictor = Predictor(init(net, 0), net, ["a", "b", "c"])
    found = predictor.classify(np.random.default_rng(1).integers(0, 255, (60, 90, 3), np.uint8))
    assert sum(one.confidence for one in found) == pytest.approx(1)
    assert [one.confidence for one in found] == sorted(
        [one.confidence for one in found], reverse=True
    )
    assert {one.feature for one in found} == {"a", "b", "c"}
