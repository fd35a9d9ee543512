"""The page: complete where all went well, honest where it did not."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from PIL import Image

from demo.dataset import Dataset, Feature, Item, Project
from demo.errors import CommandFailedError
from demo.page import write_page
from demo.plan import DETECTION, FULL
from demo.report import Report
from demo.scenario import Trained

if TYPE_CHECKING:
    from pathlib import Path

ONTOLOGY = tuple(
    Feature(f"h-{name}", name, feature_type, "#aa3311")
    for names, feature_type in (
        ("circle square triangle", "boundingBox"),
        ("star moon cross", "polygon"),
        ("plain stripes dots", "classificationOption"),
    )
    for name in names.split()
)
FAILURE = CommandFailedError({
    "subject": "segmentation-train-1",
    "type": "train.failed",
    "data": {"error": {"code": "invalid_arguments", "message": "<script>no</script>"}},
})
PREDICT = {"type": "predict", "id": "one", "data": {"data_uuid": "d", "conf_thresh": 0.25}}
EVENTS = [
    {"type": "predict.accepted", "subject": "one"},
    {"type": "predict.accepted", "subject": "two"},
    {"type": "predict.succeeded", "subject": "one"},
]


def report(tmp_path: Path, score: float, *failures: CommandFailedError) -> Report:
    file = tmp_path / "still.png"
    Image.new("RGB", (60, 60), (90, 90, 90)).save(file)
    truth = [{"objects": [], "classification": "h-plain"}]
    item = Item("d", "l", file, 1, "heldout", truth)
    project = Project("p", "Shapes & more", ONTOLOGY, (item,))
    trained = Trained(DETECTION, 1, 188, {1: 3.0, 2: 1.25}, 31, {"d": {"0": []}}, 1, score)
    return Report(
        trained=[trained],
        failures=failures,
        commands=[PREDICT],
        events=EVENTS,
        demo_size=FULL,
        dataset=Dataset("http://127.0.0.1:1", tmp_path / "key", (project,)),
        seconds=98.7,
    )


def page(tmp_path: Path, shown: Report) -> str:
    output = tmp_path / "output"
    output.mkdir()
    return write_page(shown, output).read_text()


def test_the_page_tells_scores_floors_losses_and_one_command_with_its_own_events(
    tmp_path: Path,
) -> None:
    text = page(tmp_path, report(tmp_path, 0.93))
    for told in ("0.930", "box mAP50", "188", "31 s", "2 epochs, last loss 1.250", "99"):
        assert told in text
    assert '<span class="badge good">passed</span>' in text
    assert "&quot;conf_thresh&quot;: 0.25" in text
    assert text.count("predict.accepted") == 1
    assert text.count("predict.succeeded") == 1


def test_a_score_below_its_floor_stands_at_the_top(tmp_path: Path) -> None:
    text = page(tmp_path, report(tmp_path, 0.5))
    assert "detection: box mAP50 is 0.500, not above 0.8" in text
    assert '<span class="badge bad">failed</span>' in text


def test_what_failed_is_told_as_text_and_never_as_markup(tmp_path: Path) -> None:
    text = page(tmp_path, report(tmp_path, 0.93, FAILURE))
    assert "segmentation-train-1: train.failed" in text
    assert "&lt;script&gt;no" in text
    assert "<script" not in text
    assert "Shapes &amp; more" in text


def test_on_a_narrow_screen_every_figure_has_its_name(tmp_path: Path) -> None:
    """There the head of the table is gone, and each row stands below itself."""
    text = page(tmp_path, report(tmp_path, 0.93))
    style, table = text.partition("</style>")[0], text.partition('<table class="scores">')[2]
    narrow = style.partition("@media (max-width: 640px)")[2]
    assert ".scores thead { display: none; }" in narrow
    assert "content: attr(data-label)" in narrow
    head = re.findall(r"<th[^>]*>(.*?)</th>", table.partition("</thead>")[0])
    cells = re.findall(r"<t[hd][^>]*>", table.partition("<tbody>")[2].partition("</tr>")[0])
    labels = [re.findall(r'data-label="(.*?)"', cell) for cell in cells]
    assert len(head) == len(cells)
    assert labels == [[], [], [], *([name] for name in head[3:])]


def test_the_mark_on_a_bar_is_the_floor(tmp_path: Path) -> None:
    text = page(tmp_path, report(tmp_path, 0.93))
    meter = text.partition('<span class="meter">')[2].partition("</span>")[0]
    assert meter == '<i style="width:93.0%"></i><b style="left:80.0%"></b>'


def test_the_pictures_lie_where_the_page_looks_for_them(tmp_path: Path) -> None:
    text = page(tmp_path, report(tmp_path, 0.93))
    (picture,) = (tmp_path / "output" / "pictures").iterdir()
    assert picture.name == "shapes-more-still.jpg"
    assert 'src="pictures/shapes-more-still.jpg"' in text
