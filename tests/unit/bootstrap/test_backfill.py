"""Where backfills that come as commands are written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.bootstrap.backfill import backfill_output
from worker.environment import load_settings

if TYPE_CHECKING:
    import pytest


def test_backfills_of_one_id_in_two_partitions_have_two_folders(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One store is for all, and the parts of one backfill would be those of the other."""
    monkeypatch.setenv("TRAINMASTER_REDIS_URL", "redis://127.0.0.1:6379/0")
    monkeypatch.setenv("TRAINMASTER_RESULT_STORE", "/store")
    monkeypatch.setenv("TRAINMASTER_NAMESPACE", "eu,..")
    settings = load_settings(partitions=True)
    folders = [backfill_output(settings.of(name)) for name in settings.namespaces]
    assert folders[0] == "/store/backfills/eu"
    assert folders[1].startswith("/store/backfills/~")
    monkeypatch.setenv("TRAINMASTER_NAMESPACE", "eu")
    assert backfill_output(load_settings()) == "/store/backfills"
