"""The files of COCO: JSON whatever they hold, an element on a line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import pytest

from worker.backfill.results.coco import PICTURES, RESULTS, Coco, images_file, results_file
from worker.backfill.results.output import Output

if TYPE_CHECKING:
    from pathlib import Path

ELEMENTS: list[list[dict[str, Any]]] = [
    [],
    [{"a": 1}],
    [{"a": 1}, {"b": [2]}, {"c": "ü"}],
]


@pytest.mark.parametrize("elements", ELEMENTS)
def test_results_are_one_array(tmp_path: Path, elements: list[dict[str, Any]]) -> None:
    with results_file(Output(str(tmp_path))) as listed:
        for each in elements:
            listed.add(each)
    text = (tmp_path / RESULTS).read_bytes()
    assert orjson.loads(text) == elements
    assert text.count(b"\n") == max(3, len(elements) + 2)


@pytest.mark.parametrize("elements", ELEMENTS)
def test_pictures_stand_before_the_categories_that_were_found_in_them(
    tmp_path: Path, elements: list[dict[str, Any]]
) -> None:
    coco = Coco()
    with images_file(Output(str(tmp_path)), coco) as listed:
        for each in elements:
            listed.add(each)
        # Known only once all pictures were looked at.
        coco.categories |= {f"id-{each['name']}": each for each in ({"id": 1, "name": "disc"},)}
    assert orjson.loads((tmp_path / PICTURES).read_bytes()) == {
        "images": elements,
        "categories": [{"id": 1, "name": "disc", "feature_id": "id-disc"}],
    }
