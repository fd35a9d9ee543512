"""What the short forms of the scenarios share."""

from __future__ import annotations

import pytest

# How many times longer something may take than on a machine that does nothing else.
PATIENCE = 6.0


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Judges times as a busy machine allows."""
    monkeypatch.setattr("tests.faults.fleet.PATIENCE", PATIENCE)
