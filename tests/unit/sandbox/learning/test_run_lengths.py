"""Rule: a mask by its runs is the mask that was written, or an error; never half a picture."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from sandbox.learning.run_lengths import read_lengths, read_mask


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_a_compressed_mask_is_read_as_it_was_written(
    height: int, width: int, seed: int, share: float
) -> None:
    mask = (np.random.default_rng(seed).random((height, width)) < share).astype(np.uint8)
    counts = bytes(coco_mask.encode(np.asfortranarray(mask))["counts"]).decode()  # type: ignore[arg-type]
    assert (read_mask(counts, height, width) == mask).all()
    assert (read_mask(read_lengths(counts), height, width) == mask).all()


@pytest.mark.parametrize(
    ("counts", "text"),
    [
        ([7], "not 8 pixels together"),
        ([4, 5], "not 8 pixels together"),
        ([-1, 9], "not 8 pixels together"),
        ([], "not 8 pixels together"),
        ("", "not 8 pixels together"),
        ("~~", "'~' stands for no length"),
        ("é", "stands for no length"),
        ("X", "the last length is cut off"),
    ],
)
def test_what_does_not_fill_the_picture_is_refused(counts: str | list[int], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        read_mask(counts, 2, 4)
