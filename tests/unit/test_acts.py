"""The acts of people: each stands on the page for operators, and nothing else does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from worker.acts import Act

PAGE: Final = Path(__file__).parents[2] / "docs" / "operations.md"


def test_the_page_for_operators_has_every_act() -> None:
    part = PAGE.read_text("utf-8").partition("\n## Who did what\n")[2].partition("\n## ")[0]
    table = part.partition("| --- |")[2].partition("\n\n")[0]
    named = {name for row in table.splitlines() for name in re.findall(r"`([a-z_.]+)`", row)}
    assert {name for name in named if "." in name} == {str(act) for act in Act}
