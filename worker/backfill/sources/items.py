"""Items: rows of a source made into predictions, or into what is wrong with them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import structlog

from schemas.claim_check import reread_message
from schemas.enums import Priority, SourceFormat
from schemas.events import ErrorCode
from schemas.json_text import encode_json
from schemas.parsing import InvalidCommandError
from schemas.predictions import Predict
from worker.backfill.locations import STDIN, beside
from worker.backfill.sources.meaning import meant
from worker.backfill.sources.rows import ITEM_FIELDS, NAMING_FIELDS, SHOWN_CHARACTERS, named
from worker.backfill.store import FeedItem
from worker.printable import printable
from worker.trace_context import TRACE_LINK, TRACEPARENT, is_traceparent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from worker.backfill.plan import Plan
    from worker.backfill.sources.rows import SourceRow

log = structlog.get_logger(__name__)

_PLACE_CHARACTERS: Final = 200
_PROBLEM_CHARACTERS: Final = 2_000
_SHOWN_FIELDS: Final = 20
_SHOWN_VALUE: Final = 80
# The longest path that Linux takes; a picture in base64 has more.
_KEPT_VALUE: Final = 4_096
_PLAIN: Final = (str, int, float, bool)
# Whoever can't say in so many bytes which item is meant holds a picture that belongs into a file.
_MOST_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ItemParser:
    """Makes items of a backfill's rows."""

    backfill_id: str
    plan: Plan

    def item(self, number: int, row: SourceRow) -> FeedItem:
        """Returns the item of a row; a row that is none gives the record of its failure."""
        if row.fields is None:
            return self._bad(number, row, row.problem)
        try:
            return self._good(row)
        except ValueError as exc:
            return self._bad(number, row, str(exc))
        except InvalidCommandError as exc:
            problems = [
                f"{self._column(problem.path)} {problem.message}".lstrip()
                for problem in exc.problems
            ]
            return self._bad(number, row, "; ".join(problems) or exc.message)
        except Exception as exc:
            # Whatever one row makes us stumble over, the others are none of its business.
            log.exception("backfill.item_failed", backfill=self.backfill_id, place=row.place)
            return self._bad(number, row, f"can't be made an item: {type(exc).__name__}")

    def _good(self, row: SourceRow) -> FeedItem:
        data = {**self.plan.common, **self._said(row)}
        if not any(name in data for name in NAMING_FIELDS):
            has = named(row.fields or ()) or "nothing"
            raise ValueError(f"names no data_uuid and no data_path; it has {has}")
        text = self._command(data, row.place)
        if len(text) > _MOST_BYTES:
            raise ValueError(f"an item has at most {_MOST_BYTES} bytes, this has {len(text)}")
        # Half as dear as reading a stranger's message: these keys and numbers are ours.
        reread_message(text)
        return FeedItem(text)

    def _said(self, row: SourceRow) -> dict[str, Any]:
        """Returns what a row says of its item.

        Raises:
            ValueError: one of its values is not what it should be.
        """
        columns = self.plan.source.columns
        fields = row.fields or {}
        said = {}
        for name in ITEM_FIELDS:
            value = fields.get(columns.get(name, name))
            if value is None:
                continue
            try:
                value = meant(name, value, is_text=row.texts)
            except ValueError as exc:
                raise ValueError(f"{self._column(name)} {exc}") from exc
            if value is not None:
                said[name] = value
        if isinstance(said.get("data_path"), str):
            said["data_path"] = self._absolute(said["data_path"], row.manifest)
        return said

    def _input(self, row: SourceRow) -> dict[str, Any]:
        """Returns what a bad row says, by the names of parameters and with whole paths.

        Whoever puts right what is wrong has a row of JSON then that no column need be mapped for,
        and that may lie elsewhere.
        """
        columns = self.plan.source.columns
        fields = row.fields or {}
        ours = {name: columns.get(name, name) for name in ITEM_FIELDS}
        known = {*ours, *ours.values()}
        said = {
            name: self._kept(name, fields[column], row)
            for name, column in ours.items()
            if column in fields
        }
        return said | _shown({name: fields[name] for name in fields if name not in known})

    def _kept(self, name: str, value: Any, row: SourceRow) -> Any:
        is_plain = isinstance(value, _PLAIN) and not _is_infinite(value)
        try:
            found = meant(name, value, is_text=row.texts)
        except ValueError:
            # This is what is wrong: as it was said.
            found = value if is_plain else _text_of(value)
        value = value if found is None and isinstance(value, str) else found
        if name == "data_path" and isinstance(value, str):
            value = self._absolute(value, row.manifest)
        if isinstance(value, str) and len(value) > _KEPT_VALUE:
            # Not a half that could be taken for the whole.
            return f"{value[:_SHOWN_VALUE]}…"
        return value

    def _column(self, path: str) -> str:
        """Returns what a problem is about as the source's owner calls it."""
        name = "" if path == "data" else path.removeprefix("data.")
        column = self.plan.source.columns.get(name)
        return f"{column} ({name})" if column else name

    def _absolute(self, path: str, manifest: str) -> str:
        """Resolves a path against the folder that its manifest lies in; a URL stays one."""
        source = self.plan.source
        location = manifest or source.location
        if location == STDIN or (source.format is SourceFormat.FOLDER and not manifest):
            return path
        return beside(location, path)

    def _command(self, data: Mapping[str, Any], place: str) -> bytes:
        command: dict[str, Any] = {
            "type": Predict.command_type,
            "priority": Priority.BULK,
            "data": data,
            # An attribute, so that whatever becomes of it names its row.
            "place": printable(place[:_PLACE_CHARACTERS]),
        }
        if self.plan.item_events:
            # Items that carry it have events; see `worker.backfill.item_results`.
            command["backfill"] = self.backfill_id
        trace = self.plan.context.get(TRACEPARENT)
        if is_traceparent(trace):
            # A link and no parent: a million items are no trace that anybody can look at.
            command[TRACE_LINK] = trace
        return encode_json(command)

    def _bad(self, number: int, row: SourceRow, problem: str) -> FeedItem:
        said: dict[str, Any] = {"row": row.raw} if row.raw else self._input(row)
        record = {
            "item": number,
            "state": "failed",
            "place": printable(row.place[:_PLACE_CHARACTERS]),
            "input": said,
            "error": {"code": ErrorCode.INVALID_ITEM, "message": problem[:_PROBLEM_CHARACTERS]},
            "attempts": 0,
            "seconds": 0.0,
        }
        try:
            return FeedItem(b"", encode_json(record))
        except (TypeError, ValueError):
            # Not UTF-8, a column's name perhaps.
            record["input"] = {_text_of(name): _text_of(value) for name, value in said.items()}
            record["error"] = {"code": ErrorCode.INVALID_ITEM, "message": _text_of(problem)}
            return FeedItem(b"", encode_json(record))


def names_item(row: SourceRow, columns: Mapping[str, str]) -> bool:
    """Tells whether a row has a column that says which item it is."""
    return any(columns.get(name, name) in (row.fields or ()) for name in NAMING_FIELDS)


def _shown(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what a bad row says besides, in so many characters that a failure stays small."""
    if len(fields) <= _SHOWN_FIELDS and all(
        value is None or isinstance(value, _PLAIN) for value in fields.values()
    ):
        said = {_text_of(name): value for name, value in fields.items()}
        if len(str(said)) <= SHOWN_CHARACTERS:
            return said
    return {_text_of(name): _text_of(value) for name, value in list(fields.items())[:_SHOWN_FIELDS]}


def _is_infinite(value: object) -> bool:
    return isinstance(value, float) and math.isinf(value)


def _text_of(value: object) -> str:
    try:
        text = str(value)[:_SHOWN_VALUE]
    except Exception:
        log.exception("backfill.value_failed", kind=type(value).__name__)
        return type(value).__name__
    return text.encode("utf-8", "replace").decode()
