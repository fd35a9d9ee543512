"""Reads the benchmarks' tables back from JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.report.table import Table
from benchmarks.statistics import Summary

if TYPE_CHECKING:
    from collections.abc import Iterable


def markdown_of(table: Table, rows: Iterable[dict[str, Any]]) -> str:
    """Returns what a table's columns show of rows of JSON."""
    return Table(table.columns, [_as_measured(row) for row in rows]).markdown()


def _as_measured(row: dict[str, Any]) -> dict[str, Any]:
    """Returns a row with the summaries that it was made of."""
    return {
        name: Summary(**value) if isinstance(value, dict) else value for name, value in row.items()
    }
