"""`report.html`: whatever others wrote stands in it as text."""

from __future__ import annotations

from typing import Any

from worker.backfill.results.report import render
from worker.backfill.results.summary import summarize

HOSTILE = "<script>alert('&')</script>"
SHOWN = "&lt;script&gt;alert(&#x27;&amp;&#x27;)&lt;/script&gt;"


def test_nothing_that_others_wrote_is_markup_in_the_page() -> None:
    """Ids, sources, classes and the API's messages come from anywhere, and owners open the page."""
    failed: dict[str, Any] = {
        "item": 0,
        "state": "failed",
        "place": HOSTILE,
        "input": {"data_path": HOSTILE},
        "error": {"code": HOSTILE, "message": HOSTILE},
        "attempts": 1,
        "seconds": 0.1,
    }
    found = {"name": HOSTILE, "confidence": 0.5, "bounding_box": dict.fromkeys("hwxy", 0.1)}
    succeeded: dict[str, Any] = {
        "item": 1,
        "state": "succeeded",
        "attempts": 1,
        "seconds": 0.1,
        "frames": {"0": [found]},
    }
    names = ("project_uuid", "project_model_uuid", "training_uuid", "task", "conf_thresh")
    summary = summarize([failed, succeeded]).summary(HOSTILE, 1.0) | {
        "output": HOSTILE,
        "source": HOSTILE,
        "asked": dict.fromkeys(names, HOSTILE),
    }
    page = render(summary, ["parts"])
    assert HOSTILE not in page
    # The title and its heading, the source, the task; code, message, place and name of the
    # failure, and the command that runs it again; four facts, the thresholds and the folder.
    assert page.count(SHOWN) >= 12
