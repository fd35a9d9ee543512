"""`python -m tests.integration.backfill` in short form; its times are not judged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from PIL import Image

from tests.integration.backfill.measured import measure_in

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.backfill.studio import Studio

LEAST_SCORE = 0.3


@pytest.mark.long
def test_pictures_by_path_score_against_their_truth_while_interactive_commands_go_on(
    studio: Studio, tmp_path: Path
) -> None:
    pictures = len(studio.truth)
    found = measure_in(studio, tmp_path, pictures, 2)
    assert (found.succeeded, found.doubled) == (pictures, 0)
    assert found.score > LEAST_SCORE
    assert found.alone.commands > 0
    assert found.beside.commands > 0
    drawn = sorted((tmp_path / "drawn").glob("*.jpg"))
    assert len(drawn) == pictures
    with Image.open(drawn[0]) as picture:
        assert min(picture.size) >= 480
    page = (tmp_path / "drawn" / "index.html").read_text()
    assert page.count("<img") == pictures
    report = (tmp_path / "report.html").read_text()
    assert report.count("<svg") == 3
    assert "all succeeded" in report
