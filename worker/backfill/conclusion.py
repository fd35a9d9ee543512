"""The last files of a backfill, made of its parts: summary, failures, COCO results, report."""

from __future__ import annotations

from contextlib import ExitStack
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import orjson

from schemas.enums import PredictTask
from worker.backfill.coco import PICTURES, RESULTS, coco_files
from worker.backfill.parts import read_records
from worker.backfill.summary import Tally
from worker.redaction import redact_url

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worker.backfill.output import Output
    from worker.backfill.parts import Record
    from worker.backfill.standing import Standing

SUMMARY: Final = "summary.json"
FAILURES: Final = "failures.jsonl"
REPORT: Final = "report.html"


def conclude(standing: Standing, output: Output, seconds: float) -> dict[str, Any]:
    """Writes the last files; returns the summary. However often, the files are the same.

    Args:
        standing: of a backfill whose results are all in parts.
        output: where they are.
        seconds: from the beginning to the end of the backfill.

    Raises:
        OSError: a part can't be read.
        OutputError: a file can't be written.
    """
    counted = Tally()
    names = ["parts", FAILURES, SUMMARY]
    with ExitStack() as files:
        failures = files.enter_context(output.write(FAILURES))
        coco = None
        if standing.plan.common["task"] != PredictTask.CLASSIFICATION:
            coco = files.enter_context(coco_files(output))
            names += [RESULTS, PICTURES]
        # Once over all parts: a million results are gigabytes.
        for record in read_records(output):
            counted.add(record)
            if record["state"] == "failed":
                failures.write(_failure(record) + b"\n")
            if coco is not None:
                coco.add(record)
    summary = counted.summary(standing.id, seconds)
    summary["output"] = redact_url(output.location)
    summary["source"] = redact_url(standing.plan.source.location)
    summary["asked"] = dict(standing.plan.common)
    if standing.dropped:
        summary["dropped"] = standing.dropped
    output.write_json(SUMMARY, summary)
    _write_report(output, summary, names)
    return summary


def _failure(record: Record) -> bytes:
    """Returns a failure as a row that a source may hold: what was said, and what went wrong."""
    told = {name: record[name] for name in ("item", "place", "error", "attempts") if name in record}
    return orjson.dumps({**record["input"], **told})


def _write_report(output: Output, summary: dict[str, Any], names: list[str]) -> None:
    try:
        report = import_module("worker.backfill.report")
    except ModuleNotFoundError:
        # Without the extra `report` there are no plots; all of their figures are in the summary.
        return
    with output.write(REPORT) as file:
        file.write(report.render(summary, names).encode())


def succeeded_records(output: Output) -> Iterator[Record]:
    """Yields the records of items that succeeded."""
    return (record for record in read_records(output) if record["state"] == "succeeded")
