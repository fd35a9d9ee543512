"""The README's words on backfills: its snippet is run as it stands."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from tests.console import SCRIPT, TIMEOUT_SECONDS, running_worker
from tests.pages import README, snippet

if TYPE_CHECKING:
    from tests.integration.backfill.studio import Studio

ITEMS = 25


def test_the_snippet_runs_as_it_stands_and_leaves_what_the_readme_says(studio: Studio) -> None:
    """In the folder of the pictures, with one row that is bad: it fails alone."""
    names = [Path(path).relative_to(studio.folder) for path in list(studio.truth)[:ITEMS]]
    rows = ["file", *map(str, names), "gone.png"]
    (studio.folder / "items.csv").write_text("\n".join(rows) + "\n")
    environment = {
        **studio.console.environment,
        "PATH": f"{SCRIPT.parent}:/usr/bin:/bin",
        "PROJECT": studio.asked["project_uuid"],
        "ATTACHMENT": studio.asked["project_model_uuid"],
        "TRAINING": studio.asked["training_uuid"],
    }
    with running_worker(studio.console, studio.folder / "readme.log"):
        done = subprocess.run(
            ["/bin/sh", "-c", snippet(README, "sh", "backfill run")],
            cwd=studio.folder,
            env=environment,
            capture_output=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    assert done.returncode == 1, done.stderr.decode()
    assert f"line {ITEMS + 2}: {studio.folder}/gone.png" in done.stdout.decode()
    night = studio.folder / "night"
    for name in ("parts", "failures.jsonl", "summary.json", "report.html", "coco-results.json"):
        assert (night / name).exists(), name
    summary = orjson.loads((night / "summary.json").read_bytes())
    assert (summary["succeeded"], summary["failed"]) == (ITEMS, 1)
    drawn = sorted((studio.folder / "pictures").glob("*.jpg"))
    assert len(drawn) == ITEMS
