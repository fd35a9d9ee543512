"""The page about monitoring names what a person may meet."""

from __future__ import annotations

import re
from pathlib import Path

from worker.monitoring import health

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "monitoring.md").read_text("utf-8")


def test_each_problem_that_a_probe_can_name_is_explained() -> None:
    named = set(re.findall(r"^\| `([a-z_]+)` \|", PAGE.partition("## Metrics")[0], re.MULTILINE))
    source = "".join((ROOT / path).read_text("utf-8") for path in ("worker/monitoring/monitor.py",))
    beats = set(re.findall(r'Heartbeat\("([a-z]+)"', source))
    looks = {"start", "stop", "look", "redis"}
    bootstrap = (ROOT / "worker/bootstrap/monitoring.py").read_text("utf-8")
    checks = set(re.findall(r'^ +"([a-z_]+)": \w+_check\(', bootstrap, re.MULTILINE))
    assert len(checks) == 4
    assert named == beats | looks | checks


def test_the_times_of_the_page_are_those_of_the_code() -> None:
    for seconds in (
        health.LOOP_LIMIT_SECONDS,
        health.INTAKE_LIMIT_SECONDS,
        health.CELERY_LIMIT_SECONDS,
        health.STALE_SECONDS,
    ):
        assert f"{seconds:.0f} s" in PAGE
