"""The last files of a backfill, made of its parts: summary, failures, COCO results, report.

Each of them fails alone: what went wrong is a warning of the backfill, and its end depends on none.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from importlib import import_module
from typing import IO, TYPE_CHECKING, Any, Final, Protocol

import structlog

from schemas.enums import PredictTask
from schemas.json_text import encode_json
from schemas.wording import counted
from worker.backfill.errors import OutputError
from worker.backfill.results.coco import PICTURES, RESULTS, Coco, images_file, results_file
from worker.backfill.results.parts import PARTS, read_records
from worker.backfill.results.summary import Skipped, SummaryBuilder, reason_of
from worker.redaction import redact_url

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from worker.backfill.results.output import Output
    from worker.backfill.results.parts import Record
    from worker.backfill.status import BackfillStatus

log = structlog.get_logger(__name__)

SUMMARY: Final = "summary.json"
FAILURES: Final = "failures.jsonl"
REPORT: Final = "report.html"


@dataclass(frozen=True, slots=True)
class FileWarning:
    """What is wrong with one of the last files.

    Attributes:
        written: whether it is there all the same, without what the message names.
    """

    file: str
    message: str
    written: bool


class _Writer(Protocol):
    """Writes the elements of a file, one by one."""

    def add(self, value: Any) -> None:
        """Writes an element."""
        ...


class _JsonLines:
    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def add(self, value: Any) -> None:
        self._file.write(encode_json(value) + b"\n")


class _LastFile:
    """A file that goes wrong without harm to anything else.

    A record that it can't take is left out; where the file itself can't be written, it is given up.
    """

    def __init__(self, name: str, opening: AbstractContextManager[_Writer]) -> None:
        self._name = name
        self._skipped = Skipped()
        self._error: Exception | None = None
        self._opened = ExitStack()
        try:
            self._writer = self._opened.enter_context(opening)
        except Exception as exc:  # noqa: BLE001 - told as a warning
            self._error = exc

    def add(self, record: Record, values: Iterable[Any]) -> None:
        """Writes what a record gives."""
        if self._error is not None:
            return
        try:
            for value in values:
                self._writer.add(value)
        except OSError as exc:
            self.close(exc)
        except Exception as exc:  # noqa: BLE001 - told as a warning
            self._skipped.count(record, exc)

    def close(self, error: Exception | None = None) -> list[FileWarning]:
        """Ends the file, or gives it up because of an error; returns what went wrong."""
        if self._error is None:
            try:
                _end(self._opened, error)
            except Exception as exc:  # noqa: BLE001 - told as a warning
                self._error = exc
        if self._error is not None:
            return [_not_written(self._name, self._error)]
        return _left_out(self._name, "", "left out", self._skipped)


def finalize(status: BackfillStatus, output: Output, seconds: float) -> list[FileWarning]:
    """Writes the last files; returns what went wrong. However often, the files are the same.

    Args:
        status: of a backfill whose results are all in parts.
        output: where they are.
        seconds: from the beginning to the end of the backfill.
    """
    summarized = SummaryBuilder()
    uncounted = Skipped()
    found = 0
    unreadable: Exception | None = None
    files = _RecordFiles(status, output)
    try:
        # Once over all parts: a million results are gigabytes.
        for record in read_records(output):
            found += 1
            files.add(record)
            try:
                summarized.add(record)
            except Exception as exc:  # noqa: BLE001 - told as a warning
                uncounted.count(record, exc)
    except Exception as exc:  # noqa: BLE001 - told as a warning: with records missing all would lie
        unreadable = exc
    if unreadable is None and found != status.ended:
        wanted = counted(status.ended, "result", grouped=True)
        unreadable = OutputError(f"{output.path(PARTS)}: holds {found:,} of the {wanted}")
    warnings = files.close(unreadable)
    if unreadable is None:
        warnings += _left_out(SUMMARY, "item", "not counted", uncounted)
        summary = _summary(summarized, status, output, seconds)
        warnings += _write_summary(output, summary, warnings)
        warnings += _write_report(output, summary, files.names)
    else:
        warnings += [_not_written(name, unreadable) for name in (SUMMARY, REPORT)]
    for warning in warnings:
        log.warning(
            "backfill.file_failed",
            backfill=status.id,
            file=warning.file,
            written=warning.written,
            error=warning.message,
        )
    return warnings


def result_of(
    status: BackfillStatus, seconds: float, warnings: Sequence[FileWarning]
) -> dict[str, Any]:
    """Returns the result of a backfill, which needs none of its files."""
    result = {
        "items": status.ended,
        "succeeded": status.succeeded,
        "failed": status.failed,
        "failures": status.failures,
        "output": redact_url(status.plan.output),
        "seconds": round(seconds, 3),
    }
    if status.passed_over:
        result["passed_over"] = status.passed_over
    return with_warnings(result, warnings)


def with_warnings(result: dict[str, Any], warnings: Sequence[FileWarning]) -> dict[str, Any]:
    """Returns a result that tells what is wrong with the last files, if anything is."""
    told = {name: value for name, value in result.items() if name != "warnings"}
    return told | ({"warnings": [asdict(each) for each in warnings]} if warnings else {})


class _RecordFiles:
    """Failures and COCO results, which grow record by record."""

    def __init__(self, status: BackfillStatus, output: Output) -> None:
        self._coco = Coco()
        self._uncounted = Skipped()
        self._failures = _LastFile(FAILURES, _failures_file(output))
        self._images = self._results = None
        if status.plan.common["task"] != PredictTask.CLASSIFICATION:
            self._images = _LastFile(PICTURES, images_file(output, self._coco))
            self._results = _LastFile(RESULTS, results_file(output))

    @property
    def names(self) -> list[str]:
        """Names of the files, for the report."""
        coco = [] if self._results is None else [RESULTS, PICTURES]
        return ["parts", FAILURES, SUMMARY, *coco]

    def add(self, record: Record) -> None:
        """Writes what a record gives."""
        if record["state"] == "failed":
            self._failures.add(record, [_failure(record)])
        if self._results is None or self._images is None:
            return
        try:
            rows = self._coco.rows(record)
        except Exception as exc:  # noqa: BLE001 - told as a warning
            self._uncounted.count(record, exc)
            return
        self._images.add(record, rows.images)
        self._results.add(record, rows.results)

    def close(self, error: Exception | None) -> list[FileWarning]:
        """Ends all files, or gives them up; returns what went wrong."""
        warnings = self._failures.close(error)
        if self._results is not None and self._images is not None:
            warnings += self._results.close(error) + self._images.close(error)
            warnings += _left_out(RESULTS, "item", "left out", self._uncounted)
            warnings += _left_out(RESULTS, "prediction", "left out", self._coco.malformed)
            warnings += _left_out(PICTURES, "picture", "not measured", self._coco.unmeasured)
        lost = {warning.file for warning in warnings if not warning.written}
        # Of what is not there at all, nothing more needs saying.
        return [warning for warning in warnings if not (warning.written and warning.file in lost)]


def _end(opened: ExitStack, error: Exception | None) -> None:
    with opened:
        if error is not None:
            raise error


def _not_written(name: str, error: Exception | str) -> FileWarning:
    if isinstance(error, OutputError) and isinstance(error.__cause__, Exception):
        # The warning names the file by itself.
        error = error.__cause__
    return FileWarning(name, f"was not written: {reason_of(error)}", written=False)


def _left_out(name: str, noun: str, what: str, skipped: Skipped) -> list[FileWarning]:
    if not skipped.times:
        return []
    told = counted(skipped.times, noun, grouped=True) if noun else f"{skipped.times:,}"
    message = f"{told} {what}; the first: {skipped.first}"
    return [FileWarning(name, message, written=True)]


@contextmanager
def _failures_file(output: Output) -> Iterator[_JsonLines]:
    with output.write(FAILURES) as file:
        yield _JsonLines(file)


def _failure(record: Record) -> Record:
    """Returns a failure as a row that a source may hold: what was said, and what went wrong."""
    told = {name: record[name] for name in ("item", "place", "error", "attempts") if name in record}
    return {**record.get("input", {}), **told}


def _summary(
    summarized: SummaryBuilder, status: BackfillStatus, output: Output, seconds: float
) -> dict[str, Any]:
    summary = summarized.summary(status.id, seconds)
    summary["output"] = redact_url(output.location)
    summary["source"] = redact_url(status.plan.source.location)
    summary["asked"] = dict(status.plan.common)
    if status.passed_over:
        summary["passed_over"] = status.passed_over
    if status.dropped:
        summary["dropped"] = status.dropped
    return summary


def _write_summary(
    output: Output, summary: dict[str, Any], warnings: Sequence[FileWarning]
) -> list[FileWarning]:
    try:
        output.write_json(SUMMARY, with_warnings(summary, warnings))
    except Exception as exc:  # noqa: BLE001 - told as a warning
        return [_not_written(SUMMARY, exc)]
    return []


def _write_report(
    output: Output, summary: dict[str, Any], names: Sequence[str]
) -> list[FileWarning]:
    try:
        report = import_module("worker.backfill.results.report")
        page = report.render(summary, names).encode()
        with output.write(REPORT) as file:
            file.write(page)
    except ModuleNotFoundError as exc:
        reason = f"needs the package {exc.name}: install trainmaster[report]"
        return [_not_written(REPORT, reason)]
    except Exception as exc:  # noqa: BLE001 - told as a warning
        return [_not_written(REPORT, exc)]
    return []


def succeeded_records(output: Output) -> Iterator[Record]:
    """Yields the records of items that succeeded."""
    return (record for record in read_records(output) if record["state"] == "succeeded")
