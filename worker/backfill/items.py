"""Items: rows of a source made into predictions, or into what is wrong with them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson

from schemas.enums import CommandType, Priority, SourceFormat
from schemas.events import ErrorCode
from schemas.parsing import InvalidCommandError
from schemas.referral import reread_message
from worker.backfill.plan import STDIN
from worker.backfill.rows import ITEM_FIELDS, NAMING_FIELDS, SHOWN_CHARACTERS
from worker.backfill.store import Fed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from worker.backfill.plan import Plan
    from worker.backfill.rows import SourceRow

_INTEGER: Final = re.compile(r"[+-]?\d{1,18}")
_WHOLE: Final = frozenset({"frame_range_from", "frame_range_to"})
_SHARES: Final = frozenset({"conf_thresh", "iou_thresh", "rdp_thresh"})
_BOOLEANS: Final = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_PLACE_CHARACTERS: Final = 200


@dataclass(frozen=True, slots=True)
class Itemizer:
    """Makes items of a backfill's rows."""

    backfill_id: str
    plan: Plan

    def item(self, number: int, row: SourceRow) -> Fed:
        """Returns the item of a row; a row that is none gives the record of its failure."""
        if row.fields is None:
            return self._bad(number, row, row.problem)
        data = {**self.plan.common}
        try:
            data |= self._said(row.fields, texts=row.texts)
        except ValueError as exc:
            return self._bad(number, row, str(exc))
        if not any(name in data for name in NAMING_FIELDS):
            has = ", ".join(map(str, row.fields)) or "nothing"
            return self._bad(number, row, f"names no data_uuid and no data_path; it has {has}")
        text = self._command(data, row.place)
        try:
            # Half as dear as reading a stranger's message: these keys and numbers are ours.
            reread_message(text)
        except InvalidCommandError as exc:
            problems = [
                f"{self._column(problem.path)} {problem.message}".lstrip()
                for problem in exc.problems
            ]
            return self._bad(number, row, "; ".join(problems) or exc.message)
        return Fed(text)

    def _said(self, fields: Mapping[str, Any], *, texts: bool) -> dict[str, Any]:
        columns = self.plan.source.columns
        said = {}
        for name in ITEM_FIELDS:
            value = fields.get(columns.get(name, name))
            if value is None:
                continue
            said[name] = self._from_text(name, value) if texts else value
        if isinstance(said.get("data_path"), str):
            said["data_path"] = self._absolute(said["data_path"])
        return said

    def _column(self, path: str) -> str:
        """Returns what a problem is about as the source's owner calls it."""
        name = path.removeprefix("data").lstrip(".")
        column = self.plan.source.columns.get(name)
        return f"{column} ({name})" if column else name

    def _from_text(self, name: str, text: str) -> Any:
        """Returns a value of CSV as JSON has it.

        Raises:
            ValueError: the text is no such value.
        """
        try:
            return _from_text(name, text.strip())
        except ValueError as exc:
            raise ValueError(f"{self._column(name)} {exc}, not {text[:40]!r}") from exc

    def _absolute(self, path: str) -> str:
        """Resolves a path against the folder that its manifest lies in; a URL stays one."""
        location = self.plan.source.location
        is_folder = self.plan.source.format is SourceFormat.FOLDER
        if is_folder or location == STDIN or not path or "://" in path:
            return path
        if "://" in location:
            return path if path.startswith("/") else f"{location.rpartition('/')[0]}/{path}"
        return str(Path(location).parent / path)

    def _command(self, data: Mapping[str, Any], place: str) -> bytes:
        command: dict[str, Any] = {
            "type": CommandType.PREDICT,
            "priority": Priority.BULK,
            "data": data,
            # An attribute, so that whatever becomes of it names its row.
            "place": _printable(place),
        }
        if self.plan.item_events:
            # Items that carry it have events; see `worker.tasks.item_results`.
            command["backfill"] = self.backfill_id
        return orjson.dumps(command)

    def _bad(self, number: int, row: SourceRow, problem: str) -> Fed:
        said = dict(row.fields or {})
        if row.raw:
            said = {"row": row.raw}
        if len(str(said)) > SHOWN_CHARACTERS:
            said = {name: str(value)[:80] for name, value in list(said.items())[:20]}
        record = {
            "item": number,
            "state": "failed",
            "place": _printable(row.place),
            "input": said,
            "error": {"code": ErrorCode.INVALID_ITEM, "message": problem},
            "attempts": 0,
            "seconds": 0.0,
        }
        return Fed(b"", orjson.dumps(record, default=str))


def names_item(row: SourceRow, columns: Mapping[str, str]) -> bool:
    """Tells whether a row has a column that says which item it is."""
    return any(columns.get(name, name) in (row.fields or ()) for name in NAMING_FIELDS)


def _printable(place: str) -> str:
    shown = place[:_PLACE_CHARACTERS]
    if shown.isprintable():
        return shown
    return "".join(character if character.isprintable() else "�" for character in shown)


def _from_text(name: str, text: str) -> Any:
    if name in _WHOLE:
        if not _INTEGER.fullmatch(text):
            raise ValueError("must be a whole number")
        return int(text)
    if name in _SHARES:
        try:
            return float(text)
        except ValueError:
            raise ValueError("must be a number") from None
    if name == "allocation_enabled":
        if text.lower() not in _BOOLEANS:
            raise ValueError("must be true or false")
        return _BOOLEANS[text.lower()]
    return text
